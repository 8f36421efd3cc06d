/*
 * The JSON mapping on anything: what is understood can be written, and what was written is
 * understood as the same again.
 */
#include "common/base/cleanup.h"
#include "common/connect/json.h"
#include "envd/filesystem/filesystem.pb-c.h"
#include "envd/process/process.pb-c.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void try_type(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len)
{
    struct status st = STATUS_INIT;
    ProtobufCMessage *m = json_decode(type, (const char *)data, len, &st);
    ProtobufCMessage *again;
    AUTO(buf_deinit) struct buf text = BUF_INIT(1 << 24), second = BUF_INIT(1 << 24);

    if (!m) {
        require(st.code == CODE_INVALID_ARGUMENT && *st.message);
        return;
    }
    require(json_encode(&text, m));
    again = json_decode(type, buf_str(&text), buf_len(&text), &st);
    require(again != NULL && json_encode(&second, again));
    require(strcmp(buf_str(&text), buf_str(&second)) == 0);
    protobuf_c_message_free_unpacked(m, NULL);
    protobuf_c_message_free_unpacked(again, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    try_type(&process__start_request__descriptor, data, len);
    try_type(&process__start_response__descriptor, data, len);
    try_type(&process__send_signal_request__descriptor, data, len);
    try_type(&filesystem__list_dir_response__descriptor, data, len);
    return 0;
}
