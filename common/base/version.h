/* The one version of everything built from this repository. */
#pragma once

#define SANDBOXD_VERSION "0.1.0"
