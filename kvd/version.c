/* SPDX-License-Identifier: Apache-2.0 */
#include "kvd/options.h"

/* The level of the API, which is what tools that ask etcd for its version want to
 * know; they look for this very line. */
#define API_VERSION "3.7.1"

#ifndef KVD_GIT_SHA
#define KVD_GIT_SHA "unknown"
#endif

void kvd_print_version(FILE *out)
{
	fprintf(out, "etcd Version: %s\nGit SHA: %s\nkvd Version: %s\n", API_VERSION, KVD_GIT_SHA,
		KVD_VERSION);
}
