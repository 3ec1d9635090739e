/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of kvd/wal: a log in a directory of its own, entries whose payload
 * follows from their index, and the files as bytes. */
#ifndef TESTS_UNIT_WAL_LOG_H
#define TESTS_UNIT_WAL_LOG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "include/endian_bytes.h"
#include "kvd/wal.h"

#define SMALL_SEGMENT 4096
#define FRAME 8

static char top[64];		/* the test's directory */
static char dir[80];		/* the log's, in it */
static char why[512];

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static inline int setup(void **state)
{
	snprintf(top, sizeof(top), "/tmp/kvd-wal-test-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	snprintf(dir, sizeof(dir), "%s/wal", top);
	return 0;
}

static inline int teardown(void **state)
{
	return nftw(top, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static inline struct wal_args args_of(size_t segment_bytes)
{
	return (struct wal_args){ .dir = dir, .segment_bytes = segment_bytes };
}

static inline struct wal *create(size_t segment_bytes)
{
	struct wal_args args = args_of(segment_bytes);
	struct wal *wal = NULL;

	if (wal_create(&args, SLICE_LIT("metadata"), &wal, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	return wal;
}

static inline int try_open(uint64_t start, struct wal_contents *contents, struct wal **wal)
{
	struct wal_args args = args_of(SMALL_SEGMENT);

	why[0] = '\0';
	return wal_open(&args, start, contents, wal, why, sizeof(why));
}

static inline struct wal *open_log(uint64_t start, struct wal_contents *contents)
{
	struct wal *wal = NULL;

	if (try_open(start, contents, &wal) != 0)
		fail_msg("%s", why);
	return wal;
}

/* The payload of an entry follows from its term and index. */
static inline struct blob *payload_of(uint64_t term, uint64_t index, size_t len)
{
	struct blob *blob = blob_new(len);

	assert_non_null(blob);
	for (size_t i = 0; i < len; i++)
		blob->data[i] = (uint8_t)(term * 31 + index * 7 + i) | 1;
	return blob;
}

static inline void append_at(struct wal *wal, uint64_t term, uint64_t first, size_t n, size_t len,
			     uint64_t commit)
{
	const struct raft_hard_state hs = { .term = term, .vote = 3, .commit = commit };
	struct raft_entry *entries = calloc(n, sizeof(*entries));

	assert_non_null(entries);
	for (size_t i = 0; i < n; i++)
		entries[i] = (struct raft_entry){
			.term = term, .index = first + i,
			.payload = len ? payload_of(term, first + i, len) : NULL,
		};
	assert_int_equal(wal_append(wal, entries, n, &hs), 0);
	raft_entries_free(entries, n);
}

/* The same, when all before it is committed. */
static inline void append(struct wal *wal, uint64_t term, uint64_t first, size_t n, size_t len)
{
	append_at(wal, term, first, n, len, first - 1);
}

static inline void check_entry(const struct raft_entry *e, uint64_t term, uint64_t index,
			       size_t len)
{
	struct blob *want;

	assert_int_equal(e->term, term);
	assert_int_equal(e->index, index);
	assert_int_equal(e->type, RAFT_ENTRY_NORMAL);
	if (!len) {
		assert_null(e->payload);
		return;
	}
	want = payload_of(term, index, len);
	assert_true(slice_eq(blob_slice(e->payload), blob_slice(want)));
	blob_put(want);
}

/* --- files ---------------------------------------------------------------------- */

struct bytes {
	uint8_t *data;
	size_t len;
};

static inline struct bytes load(const char *name)
{
	struct bytes b;
	char path[256];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	b.len = (size_t)st.st_size;
	b.data = malloc(b.len + 1);
	assert_non_null(b.data);
	assert_int_equal(read(fd, b.data, b.len), b.len);
	close(fd);
	return b;
}

static inline void store(const char *name, const uint8_t *data, size_t len)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	assert_int_equal(close(fd), 0);
}

#define FIRST "0000000000000000-0000000000000000.wal"

/* Where each frame begins, with the end of the last one after them. */
static inline size_t frames(const struct bytes *b, size_t *at, size_t max)
{
	size_t n = 0, pos = 0;

	while (pos + FRAME <= b->len && get_le64(b->data + pos)) {
		assert_true(n < max - 1);
		at[n++] = pos;
		pos += FRAME + ((get_le64(b->data + pos) & 0xffffffff) + 7) / 8 * 8;
	}
	at[n] = pos;
	return n;
}

static inline size_t count_files(const char *suffix)
{
	struct dirent *e;
	size_t n = 0;
	DIR *d = opendir(dir);

	assert_non_null(d);
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name);

		if (len > strlen(suffix) && !strcmp(e->d_name + len - strlen(suffix), suffix))
			n++;
	}
	closedir(d);
	return n;
}

/* The name of the second segment. */
static inline void find_second(char name[64])
{
	struct dirent *e;
	DIR *d = opendir(dir);

	assert_non_null(d);
	name[0] = '\0';
	while ((e = readdir(d)))
		if (!strncmp(e->d_name, "0000000000000001-", 17) && strlen(e->d_name) < 64)
			memcpy(name, e->d_name, strlen(e->d_name) + 1);
	closedir(d);
	assert_true(name[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
