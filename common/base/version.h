/* The one version of everything built from this repository. */
#pragma once

#ifndef SANDBOXD_VERSION /* a build that stands for the next one has another */
#define SANDBOXD_VERSION "0.1.0"
#endif
