/*
 * Fuzzes everything in the recorder that reads files of a command's record: as each of them in turn
 * it is given the input, with a whole journal beside it. Readers end, stay within what they were
 * given, and a record that does not hold together is noticed or shown, never trusted.
 */
#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/journal/view.h"
#include "runtime/recorder/files.h"
#include "runtime/recorder/gone.h"
#include "runtime/recorder/journal_file.h"
#include "runtime/recorder/reader.h"
#include "runtime/recorder/spec.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static char in_memory[] = "/dev/shm/sandboxd-fuzz-XXXXXX", on_disk[] = "/tmp/sandboxd-fuzz-XXXXXX";
static const char *path;

static void remove_scratch(void)
{
    remove_flat_dir(AT_FDCWD, path);
}

/* One directory for all runs; in memory, where there is some. */
static int scratch(void)
{
    static int dir = -1;

    if (dir >= 0)
        return dir;
    path = mkdtemp(in_memory) != NULL ? in_memory : mkdtemp(on_disk);
    require(path != NULL);
    atexit(remove_scratch);
    dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require(dir >= 0);
    return dir;
}

static void put(const char *name, const uint8_t *data, size_t len)
{
    AUTO_CLOSE int fd = openat(scratch(), name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    require(fd >= 0 && fd_write_all(fd, data, len));
}

static void read_journal(uint64_t from, const struct view_options *o)
{
    AUTO(buf_deinit) struct buf out = BUF_INIT(64 << 20);
    struct journal_event e;
    struct reader r;
    struct view v;
    uint64_t last = 0;
    int n = 0;

    reader_init(&r, scratch(), from, 0);
    view_init(&v, o, from, META_FORMAT);
    reader_look_back(&r, &v);
    while (n++ < 100000 && reader_next(&r, true, &e) == READER_EVENT) {
        require(e.seq > last);
        last = e.seq;
        if (buf_room(&out) < VIEW_ROOM || !view_take(&v, &e, r.frame, r.frame_len, &out))
            break;
    }
    require(n < 100000);
    view_mark(&v, &out);
    view_deinit(&v);
    reader_deinit(&r);
}

static void read_all(void)
{
    const struct view_options plain = {.streams = TAIL_ALL_STREAMS};
    const struct view_options text = {.text = true, .lines = true, .streams = 2, .limit_bytes = 9};
    struct tail_place place;
    uint64_t bytes;

    read_journal(1, &plain);
    read_journal(3, &text);
    for (int unit = TAIL_EVENTS; unit <= TAIL_BYTES; unit++)
        segments_tail(scratch(),
                      &(struct tail_options){
                          .unit = (enum tail_unit)unit, .amount = 3, .streams = TAIL_ALL_STREAMS},
                      &place);
    gone_bytes_before(scratch(), 7, &bytes);
}

static void resume_journal(void)
{
    const struct meta m = {.format = META_FORMAT, .overflow = 1, .max_bytes = 1 << 20};
    struct journal_file j;

    journal_file_init(&j, scratch(), &m);
    if (journal_file_resume(&j))
        require(journal_file_closed(&j, &(struct end_record){0}));
    journal_file_deinit(&j);
}

static void as_journal(const uint8_t *data, size_t len)
{
    /* In two segments, cut where the input says. */
    size_t cut = len > 0 ? data[len / 2] % (len + 1) : 0;

    put("journal.1.0", data, cut);
    put("journal.4.9", data + cut, len - cut);
    read_all();
    resume_journal();
    read_all();
    unlinkat(scratch(), "journal.4.9", 0);
    unlinkat(scratch(), "journal.1.0", 0);
}

static void as_record(const uint8_t *data, size_t len)
{
    static const char *const names[] = {"meta", "end", "pid", "acked", "size", "gone", "gone.old"};
    struct meta m = {0};
    struct end_record end;
    struct pid_record pid;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        put(names[i], data, len);
    if (meta_read(scratch(), &m, NULL))
        size_read(scratch(), &m);
    meta_deinit(&m);
    if (end_read(scratch(), &end))
        require(end.exited_len <= sizeof(end.exited));
    pid_read(scratch(), &pid);
    acked_read(scratch());
    read_all();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlinkat(scratch(), names[i], 0);
}

static void as_spec(const uint8_t *data, size_t len)
{
    struct command_spec s = {.grace_ms = 0};
    bool whole;

    if (spec_parse_command(data, len, &s, &whole, NULL))
        require(s.meta.command_id[0] != '\0' && s.meta.args != NULL);
    command_spec_deinit(&s);
}

/* Files are slow: each input is tried in one place, and which is its own affair. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    unsigned sum = (unsigned)len;

    for (size_t i = 0; i < len; i++)
        sum = sum * 31 + data[i];
    as_spec(data, len);
    if (sum / 7 % 20 == 0)
        as_record(data, len);
    else if (sum / 7 % 20 < 3)
        as_journal(data, len);
    return 0;
}
