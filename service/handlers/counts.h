/* What handlers count, beside what service/rpc counts of every call. */
#pragma once

struct app;

/* Who made a stream go on where another one ended: series of app->resumes. */
enum resumed_by { RESUMED_BY_CALLER, RESUMED_BY_POD };

/* Declares app->resumes and app->gaps in app->metrics. By main, at start. */
void counts_add(struct app *app);
