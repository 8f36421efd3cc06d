/* See counts.h. */
#include "service/handlers/counts.h"

#include "service/app.h"
#include "service/metrics/metrics.h"

void counts_add(struct app *app)
{
    static const char *const by[] = {
        [RESUMED_BY_CALLER] = "by=\"caller\"",
        [RESUMED_BY_POD] = "by=\"pod\"",
    };

    app->resumes = metrics_add(
        app->metrics,
        &(struct metric_spec){
            .name = "sandboxd_stream_resumes_total",
            .help = "Streams that went on where one had ended: by their caller, with from_seq or a "
                    "cursor, or inside the pod, with another follower.",
            .labels = by,
            .n_series = 2,
        });
    app->gaps = metrics_add(
        app->metrics,
        &(struct metric_spec){
            .name = "sandboxd_stream_gaps_total",
            .help = "How often a stream had to say that events are gone: dropped because a "
                    "journal was full, or acknowledged.",
        });
}
