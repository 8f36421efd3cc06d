/*
 * Fuzzes what sandboxd reads out of an archive: a command's Record under the name that says it is
 * that, and what S3 lists. What is taken holds together.
 */
#include "common/base/cleanup.h"
#include "service/archive/record.h"
#include "service/archive/s3_answer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* The name fits wherever the Record does not decide otherwise. */
static void name_for(const Archive__V1__Record *r, const uint8_t *data, size_t len,
                     struct record_name *name)
{
    *name = (struct record_name){.last_seq = 1, .command_id = "c"};
    record_sha(data, len, name->sha);
    if (r == NULL || r->command == NULL || strlen(r->command->command_id) > RECORD_ID_MAX)
        return;
    strcpy(name->command_id, r->command->command_id);
    name->last_seq = r->command->last_seq;
    name->start_ns = record_start_ns(r->command);
}

static void as_record(const uint8_t *data, size_t len)
{
    AUTO(buf_deinit) struct buf object = BUF_INIT(RECORD_MAX);
    Archive__V1__Record *r = archive__v1__record__unpack(NULL, len, data);
    struct record_name name;
    struct status st;

    name_for(r, data, len, &name);
    if (r != NULL)
        archive__v1__record__free_unpacked(r, NULL);
    require(buf_append(&object, data, len));
    r = NULL;
    if (record_read(&object, &name, &r, &st)) {
        struct segment *parts = record_segments(r);
        uint64_t last = 0;

        for (size_t i = 0; i < r->n_pieces; i++) {
            require(parts[i].first_seq > last && parts[i].size <= RECORD_PIECE_MAX);
            last = r->pieces[i]->last_seq;
        }
        require(last <= name.last_seq);
        free(parts);
        archive__v1__record__free_unpacked(r, NULL);
    }
}

static void as_listing(const uint8_t *data, size_t len)
{
    AUTO(store_names_deinit) struct store_names names = {0};
    char code[S3_CODE_MAX + 1];
    struct record_name *records;
    char *token = NULL;

    s3_error_code((const char *)data, len, code);
    require(strlen(code) <= S3_CODE_MAX);
    s3_read_list((const char *)data, len, "-/s/commands/", &names, &token);
    free(token);
    store_names_sort(&names);
    require(record_names(&names, &records) <= names.n);
    free(records);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    as_record(data, len);
    as_listing(data, len);
    return 0;
}
