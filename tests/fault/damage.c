// SPDX-License-Identifier: Apache-2.0
/*
 * Damaged files.
 *
 *	damage [TIMES [SEED]]
 *
 * Carries out a history on a store on disk, hurts one of its files in one place, and
 * opens it and reads everything. The answers must be right, or an error must say so;
 * never a wrong value. Where the end of Berkeley DB's log is hurt, the store may be as
 * it was some batches ago, with no error of its own: that is for its caller to see,
 * who has cut his own log only up to what was synced, and finds that it begins after
 * what the store holds (kvd/disk.c, wal_open()). So it counts as seen where the batch
 * is before the last one that was synced.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/bug.h"
#include "tests/fault/image.h"
#include "tests/fault/model.h"
#include "tests/fault/shim.h"

#define BATCHES 40
#define PAGE 16384
#define FILES_MAX 64
#define FILE_NAME_MAX 256

struct damage {
	struct model *model;
	struct image *image;
	char store[PATH_MAX], trace[PATH_MAX], cut[PATH_MAX], old[PATH_MAX];
	uint64_t random;
	size_t synced;
	unsigned long right, refused, shorter, failed;
};

/* What one file suffers. The buffer is the page, or a part of it, that @offset is in. */
struct hurt {
	int fd, old;			/* @old: the file as it was before; -1: none */
	off_t size, offset;
	uint64_t random;
};

static void change(const struct hurt *h, off_t at, size_t len, int (*byte)(uint64_t *))
{
	uint8_t buf[PAGE];
	uint64_t state = h->random;

	len = MIN(len, (size_t)(h->size - at));
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)byte(&state);
	BUG_ON(pwrite(h->fd, buf, len, at) != (ssize_t)len);
}

static int zero(uint64_t *state)
{
	return 0;
}

static int noise(uint64_t *state)
{
	return (int)(random_next(state) & 255);
}

static void flip_bit(const struct hurt *h)
{
	uint8_t byte;

	BUG_ON(pread(h->fd, &byte, 1, h->offset) != 1);
	byte ^= (uint8_t)(1u << h->random % 8);
	BUG_ON(pwrite(h->fd, &byte, 1, h->offset) != 1);
}

static void zero_sector(const struct hurt *h)
{
	change(h, h->offset / 512 * 512, 512, zero);
}

static void zero_page(const struct hurt *h)
{
	change(h, h->offset / PAGE * PAGE, PAGE, zero);
}

static void noise_sector(const struct hurt *h)
{
	change(h, h->offset / 512 * 512, 512, noise);
}

static void cut_off(const struct hurt *h)
{
	BUG_ON(ftruncate(h->fd, h->offset));
}

static void copy_page(const struct hurt *h, int from, off_t at)
{
	uint8_t buf[PAGE] = { 0 };
	ssize_t n = pread(from, buf, sizeof(buf), at);

	if (n > 0)
		BUG_ON(pwrite(h->fd, buf, (size_t)n, h->offset / PAGE * PAGE) != n);
}

/* A write that went to a wrong place, or that never arrived. */
static void other_page(const struct hurt *h)
{
	copy_page(h, h->fd, (off_t)(h->random % (uint64_t)h->size) / PAGE * PAGE);
}

static void old_page(const struct hurt *h)
{
	if (h->old >= 0)
		copy_page(h, h->old, h->offset / PAGE * PAGE);
}

static const struct { const char *name; void (*fn)(const struct hurt *h); } kinds[] = {
	{ "a bit is flipped", flip_bit },
	{ "a sector is zeroes", zero_sector },
	{ "a page is zeroes", zero_page },
	{ "a sector is noise", noise_sector },
	{ "the end is missing", cut_off },
	{ "a page is that of another place", other_page },
	{ "a page is older than it should be", old_page },
};

/* --- the store that is hurt ------------------------------------------------ */

static void record(void *arg)
{
	struct damage *d = arg;
	int fd = open(d->trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	struct session s = { .trace = fd };

	BUG_ON(fd < 0);
	shim_begin(d->store, NULL);
	shim_trace(fd);
	if (session_open(&s, d->model, d->store) || model_run(&s, 0, BATCHES))
		exit(1);
	_exit(0);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* Some file in the directory; false where it is empty. */
static bool pick_file(struct damage *d, char name[FILE_NAME_MAX])
{
	static char names[FILES_MAX][FILE_NAME_MAX];
	const struct dirent *e;
	struct stat st;
	DIR *dir = opendir(d->cut);
	size_t n = 0;

	BUG_ON(!dir);
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.' && n < FILES_MAX)
			snprintf(names[n++], FILE_NAME_MAX, "%s", e->d_name);
	qsort(names, n, FILE_NAME_MAX, by_name);
	BUG_ON(!n);
	snprintf(name, FILE_NAME_MAX, "%s", names[random_next(&d->random) % n]);
	BUG_ON(fstatat(dirfd(dir), name, &st, 0));
	closedir(dir);
	return st.st_size > 0;
}

static int open_in(const char *dir, const char *name, int flags)
{
	char path[PATH_MAX + FILE_NAME_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return open(path, flags | O_CLOEXEC);
}

static void hurt(struct damage *d, size_t kind, char name[FILE_NAME_MAX])
{
	struct hurt h = { .random = random_next(&d->random) };
	struct stat st;

	while (!pick_file(d, name))
		;
	h.fd = open_in(d->cut, name, O_RDWR);
	h.old = open_in(d->old, name, O_RDONLY);
	BUG_ON(h.fd < 0 || fstat(h.fd, &st));
	h.size = st.st_size;
	h.offset = (off_t)(random_next(&d->random) % (uint64_t)h.size);
	kinds[kind].fn(&h);
	close(h.fd);
	if (h.old >= 0)
		close(h.old);
}

static void try(struct damage *d, size_t kind)
{
	const struct cut cut = { .mode = CUT_KILL, .dir = d->cut };
	char name[FILE_NAME_MAX];
	struct verdict v;

	BUG_ON(image_cut(d->image, &cut));
	hurt(d, kind, name);
	verify(d->model, d->cut, false, &v);
	if (v.kind == REFUSED || (v.kind == WRONG && v.error == -EBADMSG)) {
		d->refused++;
	} else if (v.kind == RIGHT && v.batch >= d->synced) {
		d->right++;
	} else if (v.kind == RIGHT) {
		d->shorter++;
	} else {
		d->failed++;
		printf("# %s in %s: batch %zu of %d: %s (%d)\n", kinds[kind].name, name, v.batch,
		       BATCHES, v.text, v.error);
	}
}

int main(int argc, char **argv)
{
	size_t times = argc > 1 ? strtoul(argv[1], NULL, 10) : 70;
	struct damage d = { .random = argc > 2 ? strtoul(argv[2], NULL, 10) : 1 };

	d.model = model_new(d.random, BATCHES);
	d.synced = BATCHES;
	snprintf(d.store, sizeof(d.store), "%s/store", test_dir());
	snprintf(d.trace, sizeof(d.trace), "%s/trace", test_dir());
	snprintf(d.cut, sizeof(d.cut), "%s/cut", test_dir());
	snprintf(d.old, sizeof(d.old), "%s/old", test_dir());
	BUG_ON(mkdir(d.store, 0700) || mkdir(d.cut, 0700) || mkdir(d.old, 0700));
	BUG_ON(in_child(record, &d) || image_open(d.trace, &d.image));
	image_advance(d.image, image_records(d.image) * 4 / 5);
	BUG_ON(image_cut(d.image, &(struct cut){ .mode = CUT_KILL, .dir = d.old }));
	image_advance(d.image, image_records(d.image));
	for (size_t i = 0; i < times; i++)
		try(&d, i % ARRAY_SIZE(kinds));
	printf("# %zu damages: %lu did no harm, %lu refused, %lu left an older state that the "
	       "caller's log does not reach\n", times, d.right, d.refused, d.shorter);
	image_close(d.image);
	model_free(d.model);
	printf("%lu passed, %lu failed\n", d.right + d.refused + d.shorter, d.failed);
	return d.failed != 0;
}
