/*
 * The journal's wire form, as bytes in memory: pure, no I/O, no allocation.
 *
 * A journal is a sequence of frames. A frame is field 1 of a RunCommandResponse, length-delimited:
 * 0x0A, the length as a minimal varint, and that many bytes of a serialized
 * sandbox.v1.CommandEvent. By protobuf's concatenation rule any run of whole frames is itself a
 * valid response message, so sandboxd relays these bytes without decoding or re-encoding them. It
 * must not trust them: they come out of the sandbox.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    JOURNAL_TAG = 0x0A,
    JOURNAL_FRAME_MAX = 64 * 1024, /* a whole frame, header included */
    /*
     * Output bytes that the writer puts into one event. As text every one of them may become the
     * three bytes of U+FFFD, with up to three more from the event before, and still be one frame.
     */
    JOURNAL_PAYLOAD_MAX = 21 * 1024,
    JOURNAL_HEADER_MAX = 96,   /* what journal_encode_output_header() writes at most */
    JOURNAL_EXITED_MAX = 1280, /* what journal_encode_exited() writes at most */
};

/* Field numbers of sandbox.v1.CommandEvent. */
enum journal_kind {
    JOURNAL_UNKNOWN = 0, /* an event of a newer recorder */
    JOURNAL_STARTED = 4,
    JOURNAL_STDOUT = 5,
    JOURNAL_STDERR = 6,
    JOURNAL_TERMINAL = 7,
    JOURNAL_TEXT = 8,
    JOURNAL_DROPPED = 9,
    JOURNAL_EXITED = 10,
    JOURNAL_CLOSED = 11,
};

/* One event, pointing into the frame it was parsed from. */
struct journal_event {
    uint64_t seq;
    int64_t time_ns; /* wall clock; 0 when the frame has none */
    uint64_t offset; /* of output, within its own stream */
    enum journal_kind kind;
    const uint8_t *data; /* borrowed; output bytes, the text, or the submessage of the others */
    size_t data_len;
    uint64_t dropped_first, dropped_last, dropped_bytes; /* of JOURNAL_DROPPED */
    uint32_t text_stream;                                /* of JOURNAL_TEXT: sandbox.v1.Stream */
    uint32_t exit_reason;                                /* of JOURNAL_EXITED: Exited.Reason */
};

enum journal_result {
    JOURNAL_FRAME,   /* a whole frame; *ret_len is its length, header included */
    JOURNAL_PARTIAL, /* the bytes end inside a frame that is well formed so far */
    JOURNAL_CORRUPT, /* not a journal: nothing after this point can be trusted */
};

/*
 * Parses and checks one frame at the start of data: tags, lengths, wire types, the fields of an
 * event set at most once, times in range, strings (Text.text, Exited.message) as UTF-8. Fields it
 * does not know are skipped (a newer recorder), groups are corrupt. No bytes at all are PARTIAL.
 */
enum journal_result journal_parse(const uint8_t *data, size_t len, struct journal_event *ret,
                                  size_t *ret_len);

/*
 * Follows the sequence of a stream of frames. The next event must be expected (last + 1), or be a
 * Dropped whose first_seq is expected and whose seq is its last_seq. In a sparse stream, which
 * leaves events out, one may also come later than expected.
 */
struct journal_check {
    uint64_t last_seq; /* last event accepted; start with from_seq - 1 */
    bool sparse;
    bool exited, closed;
};

bool journal_check_next(struct journal_check *c, const struct journal_event *e);

/*
 * Encoders. Each writes one whole frame to the front of to (room: JOURNAL_FRAME_MAX) and returns
 * its length. For output, the header alone can be written (then the payload follows unchanged in
 * the frame), so that the recorder can write header and payload with one writev().
 */
size_t journal_encode_output_header(uint8_t *to, uint64_t seq, int64_t time_ns, uint64_t offset,
                                    enum journal_kind kind, size_t payload_len);
size_t journal_encode_started(uint8_t *to, uint64_t seq, int64_t time_ns, uint32_t pid);
size_t journal_encode_text(uint8_t *to, uint64_t seq, int64_t time_ns, uint64_t offset,
                           uint32_t stream, const uint8_t *text, size_t len);
size_t journal_encode_dropped(uint8_t *to, int64_t time_ns, uint64_t first_seq, uint64_t last_seq,
                              uint64_t bytes);

struct journal_exit {
    uint32_t reason; /* sandbox.v1.Exited.Reason */
    int32_t code;
    int32_t signal;
    const char *message; /* NULL: none; cut to 1024 bytes */
    int64_t cpu_ns;
    uint64_t max_rss_bytes;
};

size_t journal_encode_exited(uint8_t *to, uint64_t seq, int64_t time_ns,
                             const struct journal_exit *exit);
size_t journal_encode_closed(uint8_t *to, uint64_t seq, int64_t time_ns);
