/* SPDX-License-Identifier: Apache-2.0 */
/* The files that this process has open and that have no name any more. */
#ifndef TESTS_UNIT_REMOVED_FILES_H
#define TESTS_UNIT_REMOVED_FILES_H

#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* What they take, or -1. */
static inline int64_t removed_bytes(void)
{
	DIR *fds = opendir("/proc/self/fd");
	const struct dirent *e;
	int64_t sum = 0;
	struct stat st;

	if (!fds)
		return -1;
	while ((e = readdir(fds)))
		if (!fstatat(dirfd(fds), e->d_name, &st, 0) && S_ISREG(st.st_mode) && !st.st_nlink)
			sum += st.st_size;
	closedir(fds);
	return sum;
}

#endif
