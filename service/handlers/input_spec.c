/* See input_spec.h. */
#include "service/handlers/input_spec.h"

#include "common/base/mem.h"
#include "recorder/v1/recorder.pb-c.h"

uint8_t *input_spec_pack(const struct input_spec *input, size_t *ret_len)
{
    Recorder__V1__InputSpec spec = RECORDER__V1__INPUT_SPEC__INIT;
    Recorder__V1__SpecFile file = RECORDER__V1__SPEC_FILE__INIT;
    char end[] = "end";
    uint8_t *bytes;

    spec.data = (ProtobufCBinaryData){.data = (uint8_t *)input->data, .len = input->len};
    spec.eof = input->eof;
    spec.positioned = input->positioned;
    spec.offset = input->offset;
    file.spec_case = RECORDER__V1__SPEC_FILE__SPEC_INPUT;
    file.input = &spec;
    file.end = end;
    *ret_len = recorder__v1__spec_file__get_packed_size(&file);
    bytes = xmalloc(*ret_len);
    recorder__v1__spec_file__pack(&file, bytes);
    return bytes;
}
