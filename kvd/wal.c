/* SPDX-License-Identifier: Apache-2.0 */
#include "kvd/wal_i.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/pb.h"
#include "lib/proto/wal.pb-c.h"

/* A buffer that grew beyond this for one large append is given back. */
#define BUFFER_KEEP_BYTES (4 << 20)
/* Blocks are filled with zeroes by so many bytes before records come to them. */
#define FILL_BYTES (256 << 10)
/* Of a segment that was removed, so many bytes are freed after each sync. */
#define FREE_BYTES (256 << 10)

static struct wal_segment *last_segment(struct wal *wal)
{
	return &wal->segments[wal->n_segments - 1];
}

static struct wal *wal_new(const struct wal_args *args)
{
	struct wal *wal = calloc(1, sizeof(*wal));

	if (!wal)
		return NULL;
	wal->dir_fd = -1;
	wal->fd = -1;
	wal->removed = -1;
	wal->segment_bytes = args->segment_bytes ? args->segment_bytes : WAL_SEGMENT_BYTES;
	wal->no_sync = args->no_sync;
	return wal;
}

void wal_close(struct wal *wal)
{
	if (!wal)
		return;
	if (wal->fd >= 0)
		close(wal->fd);
	if (wal->removed >= 0)
		close(wal->removed);
	if (wal->dir_fd >= 0)
		close(wal->dir_fd);
	blob_put(wal->metadata);
	free(wal->segments);
	free(wal->buffer.data);
	free(wal);
}

/* --- writing -------------------------------------------------------------- */

/*
 * The first write to a block that was only preallocated changes the file's extents, so
 * that the sync has to wait for the file system's journal, and with it for all that
 * others have written. So what begins a new piece of the file fills it with zeroes, and
 * the records that come there later are data alone.
 */
static int fill(struct wal *wal)
{
	uint64_t end = wal->offset + wal->buffer.len;

	if (end <= wal->filled)
		return 0;
	wal->filled = end + FILL_BYTES - 1 - (end + FILL_BYTES - 1) % FILL_BYTES;
	wal->filled = MAX(end, MIN(wal->filled, (uint64_t)wal->segment_bytes));
	return wal_put_zeroes(&wal->buffer, wal->filled - end);
}

/* Writes the buffer at the end of the log. */
static int flush(struct wal *wal)
{
	size_t len = wal->buffer.len;
	int r = fill(wal);

	if (r == 0)
		r = wal_write_all(wal->fd, wal->buffer.data, wal->buffer.len, wal->offset);
	if (r < 0)
		return r;
	wal->offset += len;
	wal->written += len;
	last_segment(wal)->bytes = wal->offset;
	wal->buffer.len = 0;
	if (wal->buffer.size > BUFFER_KEEP_BYTES) {
		free(wal->buffer.data);
		wal->buffer.data = NULL;
		wal->buffer.size = 0;
	}
	return 0;
}

static int sync_data(struct wal *wal)
{
	if (wal->no_sync)
		return 0;
	if (fdatasync(wal->fd) < 0)
		return -errno;
	wal->synced = true;
	return 0;
}

static int sync_dir(const struct wal *wal)
{
	return !wal->no_sync && fsync(wal->dir_fd) < 0 ? -errno : 0;
}

static bool has_hard_state(const struct raft_hard_state *state)
{
	return state->term || state->vote || state->commit;
}

/* What every segment begins with. */
static int put_head(struct wal *wal)
{
	int r = wal_put_record(&wal->buffer, WAL_CRC, slice_of(NULL, 0));

	if (r == 0)
		r = wal_put_record(&wal->buffer, WAL_METADATA, blob_slice(wal->metadata));
	if (r == 0 && has_hard_state(&wal->hard_state))
		r = wal_put_hard_state(&wal->buffer, &wal->hard_state);
	return r;
}

/* The first record after a sync says that there was one: a mark (see wal.h). */
static int put_mark(struct wal *wal)
{
	if (!wal->synced)
		return 0;
	wal->synced = false;
	return wal_put_record(&wal->buffer, WAL_CRC, slice_of(NULL, 0));
}

static int add_segment(struct wal *wal, const struct wal_segment *segment)
{
	struct wal_segment *grown = reallocarray(wal->segments, wal->n_segments + 1,
						 sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	wal->segments = grown;
	grown[wal->n_segments++] = *segment;
	return 0;
}

/* Ends the segment at what it holds, so that nothing but its records is in it. */
static int end_segment(struct wal *wal)
{
	if (ftruncate(wal->fd, (off_t)wal->offset) < 0)
		return -errno;
	return sync_data(wal);
}

/* Begins the next segment. It gets its name when its head is on the disk, so that a
 * segment with a name always has one. */
static int cut(struct wal *wal)
{
	struct wal_segment next = {
		.seq = last_segment(wal)->seq + 1, .index = wal->last_index + 1,
	};
	char name[WAL_NAME_BYTES], tmp[WAL_NAME_BYTES];
	int fd, r;

	r = end_segment(wal);
	if (r < 0)
		return r;
	fd = wal_segment_make(wal->dir_fd, &next, ".wal.tmp", wal->segment_bytes);
	if (fd < 0)
		return fd;
	close(wal->fd);
	wal->fd = fd;
	wal->offset = wal->filled = 0;
	r = add_segment(wal, &next);
	if (r == 0)
		r = put_head(wal);
	if (r == 0)
		r = flush(wal);
	if (r < 0)
		return r;
	if (!wal->no_sync && fsync(wal->fd) < 0)
		return -errno;
	wal->synced = !wal->no_sync;
	wal_name(&next, ".wal.tmp", tmp);
	wal_name(&next, ".wal", name);
	if (renameat(wal->dir_fd, tmp, wal->dir_fd, name) < 0)
		return -errno;
	return sync_dir(wal);
}

static int append(struct wal *wal, const struct raft_entry *entries, size_t n,
		  const struct raft_hard_state *hard_state)
{
	int r = 0;

	if (wal->offset >= wal->segment_bytes)
		r = cut(wal);
	if (r == 0)
		r = put_mark(wal);
	for (size_t i = 0; r == 0 && i < n; i++) {
		BUG_ON(i && entries[i].index != entries[i - 1].index + 1);
		r = wal_put_entry(&wal->buffer, &entries[i]);
		wal->last_index = entries[i].index;
	}
	if (r == 0 && hard_state && has_hard_state(hard_state)) {
		r = wal_put_hard_state(&wal->buffer, hard_state);
		wal->hard_state = *hard_state;
	}
	return r < 0 ? r : flush(wal);
}

int wal_append(struct wal *wal, const struct raft_entry *entries, size_t n,
	       const struct raft_hard_state *hard_state)
{
	if (!wal->error && (n || hard_state))
		wal->error = append(wal, entries, n, hard_state);
	return wal->error;
}

/*
 * Some of what a removed segment takes: all at once is milliseconds, for which those who
 * append would wait. One that has another name, as a copy of links, is not ours to cut;
 * and where cutting fails, closing frees the rest.
 */
static void free_some(struct wal *wal)
{
	struct stat st;

	if (wal->removed < 0)
		return;
	if (!fstat(wal->removed, &st) && !st.st_nlink && st.st_size > FREE_BYTES &&
	    !ftruncate(wal->removed, st.st_size - FREE_BYTES))
		return;
	close(wal->removed);
	wal->removed = -1;
}

int wal_sync(struct wal *wal)
{
	if (!wal->error && !wal->synced)
		wal->error = sync_data(wal);
	if (!wal->error)
		free_some(wal);
	return wal->error;
}

uint64_t wal_last_index(const struct wal *wal)
{
	return wal->last_index;
}

static int append_snapshot(struct wal *wal, const struct raft_snapshot_meta *meta)
{
	const struct raft_conf_state *conf = &meta->conf;
	Raftpb__ConfState conf_state = RAFTPB__CONF_STATE__INIT;
	Walpb__Snapshot snapshot = WALPB__SNAPSHOT__INIT;
	struct blob *data;
	int r;

	conf_state.n_voters = conf->n_voters;
	conf_state.voters = conf->voters;
	conf_state.n_learners = conf->n_learners;
	conf_state.learners = conf->learners;
	conf_state.n_voters_outgoing = conf->n_voters_outgoing;
	conf_state.voters_outgoing = conf->voters_outgoing;
	conf_state.n_learners_next = conf->n_learners_next;
	conf_state.learners_next = conf->learners_next;
	conf_state.has_auto_leave = true;
	conf_state.auto_leave = conf->auto_leave;
	snapshot.has_index = true;
	snapshot.index = meta->index;
	snapshot.has_term = true;
	snapshot.term = meta->term;
	snapshot.conf_state = meta->index ? &conf_state : NULL;
	data = pb_pack_blob(&snapshot.base);
	if (!data)
		return -ENOMEM;
	r = put_mark(wal);
	if (r == 0)
		r = wal_put_record(&wal->buffer, WAL_SNAPSHOT, blob_slice(data));
	blob_put(data);
	wal->last_index = MAX(wal->last_index, meta->index);
	return r < 0 ? r : flush(wal);
}

int wal_snapshot(struct wal *wal, const struct raft_snapshot_meta *meta)
{
	if (!wal->error)
		wal->error = append_snapshot(wal, meta);
	return wal->error;
}

/* --- old segments --------------------------------------------------------- */

/* The first segment that is needed for the entries after @index: the last one that
 * begins at or before the next entry. SIZE_MAX: there is none. */
static size_t first_needed(const struct wal *wal, uint64_t index)
{
	for (size_t i = wal->n_segments; i-- > 0;)
		if (wal->segments[i].index <= index + 1)
			return i;
	return SIZE_MAX;
}

/* What is left of the one before goes at once. */
static int remove_segment(struct wal *wal, const struct wal_segment *segment)
{
	char name[WAL_NAME_BYTES];

	if (wal->removed >= 0)
		close(wal->removed);
	wal_name(segment, ".wal", name);
	wal->removed = openat(wal->dir_fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (unlinkat(wal->dir_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

static int release(struct wal *wal, uint64_t index)
{
	size_t first = first_needed(wal, index), n;
	int r;

	if (first == 0 || first == SIZE_MAX)
		return 0;
	if (!wal->synced) {
		r = sync_data(wal);
		if (r < 0)
			return r;
	}
	for (n = 0; n < first; n++) {
		r = remove_segment(wal, &wal->segments[n]);
		if (r < 0)
			return r;
	}
	wal->n_segments -= first;
	memmove(wal->segments, wal->segments + first, wal->n_segments * sizeof(*wal->segments));
	return sync_dir(wal);
}

int wal_release(struct wal *wal, uint64_t index)
{
	if (!wal->error)
		wal->error = release(wal, index);
	return wal->error;
}

uint64_t wal_written(const struct wal *wal)
{
	return wal->written;
}

uint64_t wal_bytes(const struct wal *wal)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < wal->n_segments; i++)
		bytes += wal->segments[i].bytes;
	return bytes;
}

/* --- a new log ------------------------------------------------------------ */

/* Opens and locks directory @path. */
static int open_dir(struct wal *wal, const char *path, struct wal_why why)
{
	int r;

	/* the directory may be a link to another disk; the files in it may not */
	wal->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (wal->dir_fd < 0) {
		r = -errno;
		return wal_fail(why, r, "cannot open the log's directory %s: %s", path,
				strerrordesc_np(-r));
	}
	if (flock(wal->dir_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	r = errno == EWOULDBLOCK ? -EBUSY : -errno;
	return wal_fail(why, r, r == -EBUSY ? "%s is in use by another process" :
			"cannot lock the log's directory %s", path);
}

/* Removes what an earlier attempt left in the temporary directory. */
static int empty_dir(struct wal *wal, const char *path, struct wal_why why)
{
	struct wal_segment *list = NULL;
	char name[WAL_NAME_BYTES];
	size_t n = 0;
	int r = wal_list(wal->dir_fd, &list, &n);

	for (size_t i = 0; r == 0 && i < n; i++) {
		wal_name(&list[i], ".wal", name);
		if (unlinkat(wal->dir_fd, name, 0) < 0)
			r = -errno;
	}
	free(list);
	return r < 0 ? wal_fail(why, r, "cannot empty %s: %s", path, strerrordesc_np(-r)) : 0;
}

/* The first segment, whole and on the disk. */
static int write_first(struct wal *wal)
{
	const struct raft_snapshot_meta none = { 0 };
	const struct wal_segment segment = { 0 };
	int r = add_segment(wal, &segment);

	if (r < 0)
		return r;
	wal->fd = wal_segment_make(wal->dir_fd, &segment, ".wal", wal->segment_bytes);
	if (wal->fd < 0)
		return wal->fd;
	r = put_head(wal);
	if (r == 0)
		r = append_snapshot(wal, &none);
	if (r == 0 && !wal->no_sync && fsync(wal->fd) < 0)
		r = -errno;
	wal->synced = !wal->no_sync;
	return r < 0 ? r : sync_dir(wal);
}

/* Makes what was renamed in the directory around @path last. */
static int sync_parent(const struct wal *wal, const char *path)
{
	char *copy = strdup(path);
	int fd, r = 0;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(copy);
	if (fd < 0)
		return -errno;
	if (!wal->no_sync && fsync(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

static int create_at(struct wal *wal, const char *tmp, const char *path, struct wal_why why)
{
	int r;

	if (mkdir(tmp, 0700) < 0 && errno != EEXIST) {
		r = -errno;
		return wal_fail(why, r, "cannot make the directory %s: %s", tmp,
				strerrordesc_np(-r));
	}
	r = open_dir(wal, tmp, why);
	if (r == 0)
		r = empty_dir(wal, tmp, why);
	if (r < 0)
		return r;
	r = write_first(wal);
	/* an empty directory would be replaced, what has something in it is not */
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r == 0)
		r = sync_parent(wal, path);
	return r < 0 ? wal_fail(why, r, "cannot make the log %s: %s", path, strerrordesc_np(-r)) :
		       0;
}

int wal_create(const struct wal_args *args, struct slice metadata, struct wal **out,
	       char *why_text, size_t why_size)
{
	const struct wal_why why = { why_text, why_size };
	struct stat st;
	struct wal *wal;
	char tmp[PATH_MAX];
	int r;

	if (lstat(args->dir, &st) == 0)
		return wal_fail(why, -EEXIST, "%s exists already", args->dir);
	if ((size_t)snprintf(tmp, sizeof(tmp), "%s.tmp", args->dir) >= sizeof(tmp))
		return wal_fail(why, -ENAMETOOLONG, "%s: the name is too long", args->dir);
	wal = wal_new(args);
	if (wal)
		wal->metadata = blob_copy(metadata);
	if (!wal || !wal->metadata) {
		wal_close(wal);
		return wal_fail(why, -ENOMEM, "out of memory");
	}
	r = create_at(wal, tmp, args->dir, why);
	if (r < 0) {
		wal_close(wal);
		return r;
	}
	*out = wal;
	return 0;
}

/* --- an old log ----------------------------------------------------------- */

/* Which segments there are, and which is the first that is needed. */
static int find_first(struct wal *wal, const char *dir, uint64_t start_index, size_t *first,
		      struct wal_why why)
{
	int r = wal_list(wal->dir_fd, &wal->segments, &wal->n_segments);

	if (r < 0)
		return wal_fail(why, r, "cannot read the directory %s: %s", dir,
				strerrordesc_np(-r));
	if (!wal->n_segments)
		return wal_fail(why, -ENOENT, "%s holds no log", dir);
	*first = first_needed(wal, start_index);
	if (*first == SIZE_MAX)
		return wal_fail(why, -ENODATA,
				"the log begins at entry %" PRIu64 ", but the store ends at %"
				PRIu64 ": restore this member from its peers or from a snapshot",
				wal->segments[0].index, start_index);
	return 0;
}

/* Makes the last segment ready for more. What was read may be known to this kernel
 * only, written by a process that was killed before its sync: it is made durable
 * before anybody counts on it. */
static int continue_last(struct wal *wal, const char *dir, struct wal_why why)
{
	int r;

	last_segment(wal)->bytes = wal->offset;
	r = wal_preallocate(wal->fd, MAX(wal->offset, (uint64_t)wal->segment_bytes));
	if (r == 0 && !wal->no_sync && fsync(wal->fd) < 0)
		r = -errno;
	if (r == 0)
		r = sync_dir(wal);
	wal->synced = !wal->no_sync;
	return r < 0 ? wal_fail(why, r, "cannot prepare the log in %s: %s", dir,
				strerrordesc_np(-r)) : 0;
}

static int open_at(struct wal *wal, const char *dir, uint64_t start_index,
		   struct wal_contents *contents, struct wal_why why)
{
	size_t first;
	int r = open_dir(wal, dir, why);

	if (r == 0)
		r = find_first(wal, dir, start_index, &first, why);
	if (r == 0)
		r = wal_read(wal, first, start_index, contents, why);
	if (r == 0)
		r = continue_last(wal, dir, why);
	if (r < 0)
		return r;
	wal->metadata = blob_get(contents->metadata);
	wal->hard_state = contents->hard_state;
	return 0;
}

int wal_open(const struct wal_args *args, uint64_t start_index, struct wal_contents *contents,
	     struct wal **out, char *why_text, size_t why_size)
{
	const struct wal_why why = { why_text, why_size };
	struct wal_contents found = { 0 };
	struct wal *wal = wal_new(args);
	int r;

	if (!wal)
		return wal_fail(why, -ENOMEM, "out of memory");
	r = open_at(wal, args->dir, start_index, &found, why);
	if (r < 0) {
		wal_contents_release(&found);
		wal_close(wal);
		return r;
	}
	*contents = found;
	*out = wal;
	return 0;
}

void wal_contents_release(struct wal_contents *contents)
{
	blob_put(contents->metadata);
	raft_entries_free(contents->entries, contents->n_entries);
	*contents = (struct wal_contents){ 0 };
}
