// SPDX-License-Identifier: Apache-2.0
/* A disk that loses power: see image.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/bug.h"
#include "tests/fault/image.h"

#define CHUNK 4096
#define SECTOR 512
#define FILES_MAX 4096
#define CHUNKS_MAX (1u << 15)		/* a file has at most 128 MiB */

/* The content of a file; a chunk that was never written is NULL, and zeroes. */
struct content {
	uint8_t **chunks;
	size_t n_chunks;
	uint64_t size;
};

/* Numbers of records that are not sure yet, in order. */
struct pending {
	size_t *records;
	size_t n, cap;
};

struct file {
	struct content content;
	struct pending pending;
};

struct name {
	char *path;
	uint32_t file;			/* 0: a directory */
};

struct names {
	struct name *names;
	size_t n, cap;
};

struct image {
	const uint8_t *trace;
	size_t trace_len;
	const struct trace_head **records;
	size_t n_records, cap_records, at;
	struct file files[FILES_MAX];
	struct names names;		/* those that are sure */
	struct pending renames;		/* what is not sure about names */
};

uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void *grown(void *items, size_t *cap, size_t n, size_t size)
{
	if (n < *cap)
		return items;
	*cap = *cap ? *cap * 2 : 16;
	items = reallocarray(items, *cap, size);
	BUG_ON(!items);
	return items;
}

static const char *record_name(const struct trace_head *head)
{
	return (const char *)(head + 1);
}

static const uint8_t *record_data(const struct trace_head *head)
{
	return (const uint8_t *)(head + 1) + head->name_len;
}

/* --- contents ------------------------------------------------------------- */

static void content_release(struct content *c)
{
	for (size_t i = 0; i < c->n_chunks; i++)
		free(c->chunks[i]);
	free(c->chunks);
	*c = (struct content){ 0 };
}

static uint8_t *content_chunk(struct content *c, size_t i)
{
	BUG_ON(i >= CHUNKS_MAX);
	if (i >= c->n_chunks) {
		c->chunks = reallocarray(c->chunks, i + 1, sizeof(*c->chunks));
		BUG_ON(!c->chunks);
		memset(c->chunks + c->n_chunks, 0, (i + 1 - c->n_chunks) * sizeof(*c->chunks));
		c->n_chunks = i + 1;
	}
	if (!c->chunks[i])
		c->chunks[i] = calloc(1, CHUNK);
	BUG_ON(!c->chunks[i]);
	return c->chunks[i];
}

static void content_write(struct content *c, uint64_t at, const uint8_t *data, size_t len)
{
	c->size = MAX(c->size, at + len);
	while (len) {
		size_t in = at % CHUNK, n = MIN(len, CHUNK - in);

		memcpy(content_chunk(c, at / CHUNK) + in, data, n);
		at += n;
		data += n;
		len -= n;
	}
}

static void content_truncate(struct content *c, uint64_t size)
{
	size_t keep = (size + CHUNK - 1) / CHUNK;

	for (size_t i = keep; i < c->n_chunks; i++) {
		free(c->chunks[i]);
		c->chunks[i] = NULL;
	}
	if (size % CHUNK && keep <= c->n_chunks && c->chunks[keep - 1])
		memset(c->chunks[keep - 1] + size % CHUNK, 0, CHUNK - size % CHUNK);
	c->size = size;
}

static void content_copy(struct content *to, const struct content *from)
{
	*to = (struct content){ .n_chunks = from->n_chunks, .size = from->size };
	to->chunks = calloc(from->n_chunks + 1, sizeof(*to->chunks));
	BUG_ON(!to->chunks);
	for (size_t i = 0; i < from->n_chunks; i++)
		if (from->chunks[i])
			memcpy(content_chunk(to, i), from->chunks[i], CHUNK);
}

static void content_apply(struct content *c, const struct trace_head *head)
{
	if (head->type == TRACE_TRUNCATE)
		content_truncate(c, head->offset);
	else
		content_write(c, head->offset, record_data(head), head->data_len);
}

static int content_save(const struct content *c, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), r = 0;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)c->size))
		r = -errno;
	for (size_t i = 0; i < c->n_chunks && !r; i++) {
		uint64_t at = (uint64_t)i * CHUNK;
		size_t n = at < c->size ? MIN(c->size - at, (uint64_t)CHUNK) : 0;

		if (n && c->chunks[i] && pwrite(fd, c->chunks[i], n, (off_t)at) != (ssize_t)n)
			r = -EIO;
	}
	close(fd);
	return r;
}

/* --- names ---------------------------------------------------------------- */

static void names_add(struct names *names, const char *path, size_t len, uint32_t file)
{
	names->names = grown(names->names, &names->cap, names->n, sizeof(*names->names));
	names->names[names->n] = (struct name){ strndup(path, len), file };
	BUG_ON(!names->names[names->n].path);
	names->n++;
}

static void names_remove(struct names *names, const char *path, size_t len)
{
	for (size_t i = 0; i < names->n; i++) {
		if (strlen(names->names[i].path) != len || memcmp(names->names[i].path, path, len))
			continue;
		free(names->names[i].path);
		memmove(&names->names[i], &names->names[i + 1],
			(names->n - i - 1) * sizeof(*names->names));
		names->n--;
		return;
	}
}

static void names_release(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->names[i].path);
	free(names->names);
	*names = (struct names){ 0 };
}

/* Of a directory, what is below it moves with it. */
static void names_rename(struct names *names, const struct trace_head *head)
{
	const char *from = (const char *)record_data(head);
	size_t len = head->data_len;
	char *path;

	names_remove(names, record_name(head), head->name_len);
	for (size_t i = 0; i < names->n; i++) {
		struct name *n = &names->names[i];

		if (strncmp(n->path, from, len) || (n->path[len] && n->path[len] != '/'))
			continue;
		BUG_ON(asprintf(&path, "%.*s%s", (int)head->name_len, record_name(head),
				n->path + len) < 0);
		free(n->path);
		n->path = path;
	}
}

static void names_apply(struct names *names, const struct trace_head *head)
{
	switch (head->type) {
	case TRACE_CREATE:
	case TRACE_MKDIR:
		names_remove(names, record_name(head), head->name_len);
		names_add(names, record_name(head), head->name_len, head->file);
		break;
	case TRACE_RENAME:
		names_rename(names, head);
		break;
	case TRACE_UNLINK:
		names_remove(names, record_name(head), head->name_len);
		break;
	}
}

static bool is_in(const char *path, size_t len, const char *dir, size_t dir_len)
{
	const char *slash = memrchr(path, '/', len);
	size_t n = slash ? (size_t)(slash - path) : 0;

	return n == dir_len && !memcmp(path, dir, n);
}

/* Whether a change of names is about an entry of directory @dir. */
static bool changes_dir(const struct trace_head *head, const char *dir, size_t len)
{
	return is_in(record_name(head), head->name_len, dir, len) ||
	       (head->type == TRACE_RENAME &&
		is_in((const char *)record_data(head), head->data_len, dir, len));
}

/* --- the trace ------------------------------------------------------------ */

static int index_trace(struct image *image)
{
	size_t at = 0;

	while (at + sizeof(struct trace_head) <= image->trace_len) {
		const struct trace_head *head = (const void *)(image->trace + at);

		if (head->magic != TRACE_MAGIC || head->file >= FILES_MAX)
			return -EBADMSG;
		image->records = grown(image->records, &image->cap_records, image->n_records,
				       sizeof(*image->records));
		image->records[image->n_records++] = head;
		at += trace_size(head);
	}
	return at == image->trace_len ? 0 : -EBADMSG;
}

int image_open(const char *trace, struct image **out)
{
	struct image *image = calloc(1, sizeof(*image));
	int fd = open(trace, O_RDONLY | O_CLOEXEC), r;
	struct stat st;
	void *map;

	BUG_ON(!image);
	if (fd < 0 || fstat(fd, &st)) {
		free(image);
		return -errno;
	}
	map = mmap(NULL, (size_t)st.st_size + 1, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	BUG_ON(map == MAP_FAILED);
	image->trace = map;
	image->trace_len = (size_t)st.st_size;
	r = index_trace(image);
	if (r)
		image_close(image);
	else
		*out = image;
	return r;
}

void image_close(struct image *image)
{
	for (size_t i = 0; i < FILES_MAX; i++) {
		content_release(&image->files[i].content);
		free(image->files[i].pending.records);
	}
	names_release(&image->names);
	free(image->renames.records);
	free(image->records);
	munmap((void *)(uintptr_t)image->trace, image->trace_len + 1);
	free(image);
}

size_t image_records(const struct image *image)
{
	return image->n_records;
}

const struct trace_head *image_record(const struct image *image, size_t n, const void **data)
{
	*data = record_data(image->records[n]);
	return image->records[n];
}

static void pending_add(struct pending *p, size_t record)
{
	p->records = grown(p->records, &p->cap, p->n, sizeof(*p->records));
	p->records[p->n++] = record;
}

static void sync_file(struct image *image, struct file *file)
{
	for (size_t i = 0; i < file->pending.n; i++)
		content_apply(&file->content, image->records[file->pending.records[i]]);
	file->pending.n = 0;
}

static void sync_dir(struct image *image, const char *dir, size_t len)
{
	struct pending *p = &image->renames;
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++) {
		const struct trace_head *head = image->records[p->records[i]];

		if (changes_dir(head, dir, len))
			names_apply(&image->names, head);
		else
			p->records[n++] = p->records[i];
	}
	p->n = n;
}

void image_advance(struct image *image, size_t upto)
{
	BUG_ON(upto < image->at || upto > image->n_records);
	for (; image->at < upto; image->at++) {
		const struct trace_head *head = image->records[image->at];

		switch (head->type) {
		case TRACE_WRITE:
		case TRACE_TRUNCATE:
			pending_add(&image->files[head->file].pending, image->at);
			break;
		case TRACE_SYNC:
			sync_file(image, &image->files[head->file]);
			break;
		case TRACE_SYNC_DIR:
			sync_dir(image, record_name(head), head->name_len);
			break;
		case TRACE_MARK:
			break;
		default:
			pending_add(&image->renames, image->at);
		}
	}
}

uint64_t image_volatile(const struct image *image)
{
	uint64_t n = image->renames.n;

	for (size_t i = 0; i < FILES_MAX; i++)
		for (size_t k = 0; k < image->files[i].pending.n; k++)
			n += 1 + image->records[image->files[i].pending.records[k]]->data_len;
	return n;
}

/* --- the cut -------------------------------------------------------------- */

struct luck {
	const struct image *image;
	enum cut_mode mode;
	uint64_t state;
	uint64_t chance;		/* of a sector, of 1024 */
	size_t last;			/* the record that is torn, or lost */
};

static bool lucky(struct luck *luck)
{
	return random_next(&luck->state) % 1024 < luck->chance;
}

/* Some sectors of one write. */
static void apply_some(struct luck *luck, struct content *c, const struct trace_head *head)
{
	size_t unit = luck->mode == CUT_BLOCKS ? CHUNK : SECTOR, n;
	const uint8_t *data = record_data(head);
	uint64_t at = head->offset;

	if (head->type == TRACE_TRUNCATE) {
		if (lucky(luck))
			content_apply(c, head);
		return;
	}
	for (size_t done = 0; done < head->data_len; done += n) {
		n = MIN(head->data_len - done, unit - (at + done) % unit);
		if (lucky(luck))
			content_write(c, at + done, data + done, n);
	}
}

static void apply_unsure(struct luck *luck, struct content *c, size_t record)
{
	const struct trace_head *head = luck->image->records[record];

	switch (luck->mode) {
	case CUT_PREFIX:
		if (record == luck->last)
			apply_some(luck, c, head);
		else if (record < luck->last)
			content_apply(c, head);
		break;
	case CUT_SECTORS:
	case CUT_BLOCKS:
		apply_some(luck, c, head);
		break;
	case CUT_LOSE_ONE:
		if (record != luck->last)
			content_apply(c, head);
		break;
	case CUT_KILL:
		content_apply(c, head);
		break;
	default:
		break;
	}
}

/* One of the writes that are not sure. */
static size_t pick_unsure(const struct image *image, uint64_t *state)
{
	uint64_t n = 0, pick;

	for (size_t i = 0; i < FILES_MAX; i++)
		n += image->files[i].pending.n;
	pick = n ? random_next(state) % n : 0;
	for (size_t i = 0; i < FILES_MAX; i++) {
		const struct pending *p = &image->files[i].pending;

		if (pick < p->n)
			return p->records[pick];
		pick -= p->n;
	}
	return 0;
}

static void copy_names(struct luck *luck, struct names *to)
{
	const struct image *image = luck->image;
	size_t n = image->renames.n;

	for (size_t i = 0; i < image->names.n; i++)
		names_add(to, image->names.names[i].path, strlen(image->names.names[i].path),
			  image->names.names[i].file);
	if (luck->mode == CUT_NONE)
		n = 0;
	else if (luck->mode != CUT_KILL)
		n = random_next(&luck->state) % (n + 1);
	for (size_t i = 0; i < n; i++)
		names_apply(to, image->records[image->renames.records[i]]);
}

static int save_file(struct luck *luck, uint32_t number, const char *path)
{
	const struct file *file = &luck->image->files[number];
	struct content c;
	int r;

	content_copy(&c, &file->content);
	for (size_t i = 0; i < file->pending.n; i++)
		apply_unsure(luck, &c, file->pending.records[i]);
	r = content_save(&c, path);
	content_release(&c);
	return r;
}

/* A name whose directory did not survive is not there either. */
static int save_name(struct luck *luck, const struct name *name, const char *dir)
{
	char path[PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "%s/%s", dir, name->path);
	if (name->file)
		r = save_file(luck, name->file, path);
	else
		r = mkdir(path, 0700) ? -errno : 0;
	return r == -ENOENT ? 0 : r;
}

static int name_cmp(const void *a, const void *b)
{
	return strcmp(((const struct name *)a)->path, ((const struct name *)b)->path);
}

int image_cut(const struct image *image, const struct cut *cut)
{
	struct luck luck = { .image = image, .mode = cut->mode, .state = cut->seed };
	static const uint64_t chances[] = { 100, 512, 512, 924, 1000 };
	struct names names = { 0 };
	int r;

	luck.chance = chances[random_next(&luck.state) % ARRAY_SIZE(chances)];
	luck.last = pick_unsure(image, &luck.state);
	r = remove_below(cut->dir, false);
	copy_names(&luck, &names);
	if (names.n)
		qsort(names.names, names.n, sizeof(*names.names), name_cmp);
	for (size_t i = 0; i < names.n && !r; i++)
		r = save_name(&luck, &names.names[i], cut->dir);
	names_release(&names);
	return r;
}

int remove_below(const char *dir, bool itself)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	char path[PATH_MAX];

	if (!d)
		return errno == ENOTDIR ? 0 : -errno;
	while ((e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (unlinkat(AT_FDCWD, path, 0) && errno == EISDIR)
			remove_below(path, true);
	}
	closedir(d);
	return itself && rmdir(dir) ? -errno : 0;
}
