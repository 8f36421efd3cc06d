/* See input_spec.h. */
#include "service/handlers/input_spec.h"

#include "common/base/mem.h"
#include "recorder/v1/recorder.pb-c.h"

static uint8_t *pack(Recorder__V1__SpecFile *file, size_t *ret_len)
{
    char end[] = "end";
    uint8_t *bytes;

    file->end = end;
    *ret_len = recorder__v1__spec_file__get_packed_size(file);
    bytes = xmalloc(*ret_len);
    recorder__v1__spec_file__pack(file, bytes);
    return bytes;
}

uint8_t *input_spec_pack(const struct input_spec *input, size_t *ret_len)
{
    Recorder__V1__InputSpec spec = RECORDER__V1__INPUT_SPEC__INIT;
    Recorder__V1__SpecFile file = RECORDER__V1__SPEC_FILE__INIT;

    spec.data = (ProtobufCBinaryData){.data = (uint8_t *)input->data, .len = input->len};
    spec.eof = input->eof;
    spec.positioned = input->positioned;
    spec.offset = input->offset;
    file.spec_case = RECORDER__V1__SPEC_FILE__SPEC_INPUT;
    file.input = &spec;
    return pack(&file, ret_len);
}

uint8_t *watch_spec_pack(const uint8_t *cursor, size_t len, size_t *ret_len)
{
    Recorder__V1__WatchSpec spec = RECORDER__V1__WATCH_SPEC__INIT;
    Recorder__V1__SpecFile file = RECORDER__V1__SPEC_FILE__INIT;

    spec.cursor = (ProtobufCBinaryData){.data = (uint8_t *)cursor, .len = len};
    file.spec_case = RECORDER__V1__SPEC_FILE__SPEC_WATCH;
    file.watch = &spec;
    return pack(&file, ret_len);
}
