/* SPDX-License-Identifier: Apache-2.0 */
#include "kvd/options.h"

#ifndef KVD_GIT_SHA
#define KVD_GIT_SHA "unknown"
#endif

/* Tools that ask etcd for its version look for this very first line. */
void kvd_print_version(FILE *out)
{
	fprintf(out, "etcd Version: %s\nGit SHA: %s\nkvd Version: %s\n", API_VERSION, KVD_GIT_SHA,
		KVD_VERSION);
}
