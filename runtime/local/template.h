/* Template references: "[namespace/]alias[:tag]". There is one template, "base". */
#pragma once

enum template_result { TEMPLATE_BASE, TEMPLATE_UNKNOWN, TEMPLATE_MALFORMED };

#define TEMPLATE_ID "base"

/* Upper and lower case are the same. */
enum template_result template_find(const char *reference);
