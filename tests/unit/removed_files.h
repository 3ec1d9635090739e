/* SPDX-License-Identifier: Apache-2.0 */
/* The files that this process has open and that have no name any more. */
#ifndef TESTS_UNIT_REMOVED_FILES_H
#define TESTS_UNIT_REMOVED_FILES_H

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

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

#define LINKS "linked-copies"

/* Gives every file in @dir another name, in a directory LINKS there. */
static inline bool links_make(const char *dir)
{
	int from = open(dir, O_RDONLY | O_DIRECTORY), to = -1;
	DIR *names = from < 0 ? NULL : fdopendir(from);
	bool good = names && !mkdirat(from, LINKS, 0700);
	const struct dirent *e;

	if (good)
		to = openat(from, LINKS, O_RDONLY | O_DIRECTORY);
	while (good && (e = readdir(names)))
		if (e->d_type == DT_REG)
			good = !linkat(from, e->d_name, to, e->d_name, 0);
	if (to >= 0)
		close(to);
	if (names)
		closedir(names);
	return good;
}

/*
 * Takes those names away. How many of the files have no other one left; what these take is
 * in @bytes.
 */
static inline size_t links_remove(const char *dir, int64_t *bytes)
{
	int from = open(dir, O_RDONLY | O_DIRECTORY), to = openat(from, LINKS, O_RDONLY);
	DIR *names = fdopendir(to);
	const struct dirent *e;
	struct stat st;
	size_t alone = 0;

	*bytes = 0;
	while (names && (e = readdir(names))) {
		if (e->d_type != DT_REG || fstatat(to, e->d_name, &st, 0))
			continue;
		alone += st.st_nlink == 1;
		*bytes += st.st_nlink == 1 ? st.st_size : 0;
		unlinkat(to, e->d_name, 0);
	}
	unlinkat(from, LINKS, AT_REMOVEDIR);
	closedir(names);
	close(from);
	return alone;
}

#endif
