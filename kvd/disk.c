// SPDX-License-Identifier: Apache-2.0

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/wire.h"
#include "kvd/crc32c.h"
#include "kvd/disk.h"

/* Of records that are hashed, or copied to be rid of those among them, in one go. */
#define HASH_BYTES (1 << 20)
#define RECLAIM_BYTES (256 << 10)
#define SCRUB_BYTES (1 << 20)
/* Whoever waits for an answer waits for the loop and the log; the store comes after. */
#define STORE_NICE 5

/* --- paths ---------------------------------------------------------------- */

struct paths {
	char *member, *wal, *kv, *etcd_db;
};

static void paths_release(struct paths *p)
{
	free(p->member);
	free(p->wal);
	free(p->kv);
	free(p->etcd_db);
}

static char *path_join(const char *dir, const char *name)
{
	char *out;

	return asprintf(&out, "%s/%s", dir, name) < 0 ? NULL : out;
}

static int paths_make(const struct kvd_config *config, struct paths *p)
{
	p->member = path_join(config->data_dir, "member");
	p->wal = *config->wal_dir ? strdup(config->wal_dir) :
				    path_join(config->data_dir, "member/wal");
	p->kv = path_join(config->data_dir, "member/kv");
	p->etcd_db = path_join(config->data_dir, "member/snap/db");
	if (p->member && p->wal && p->kv && p->etcd_db)
		return 0;
	paths_release(p);
	return -ENOMEM;
}

static int sync_parent(const char *path)
{
	char *copy = strdup(path);
	int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int err = fd < 0 || fsync(fd) ? -errno : 0;

	if (fd >= 0)
		close(fd);
	free(copy);
	return err;
}

/* Else a loss of power takes the directory away with all that is durable in it. */
static int sync_name(const char *path, char *why, size_t why_size)
{
	int err = sync_parent(path);

	if (err)
		snprintf(why, why_size, "cannot make the name of %s durable: %s", path,
			 strerror(-err));
	return err;
}

/* One that may be left of a start which ended before its name was durable. Who may not open
 * the directory above, or not sync it, did not give it that name. */
static int sync_found(const char *path, char *why, size_t why_size)
{
	int err = sync_name(path, why, why_size);

	return err == -EACCES || err == -EINVAL ? 0 : err;
}

static int make_dir(const char *path, char *why, size_t why_size)
{
	struct stat st;

	if (!mkdir(path, 0700))
		return sync_name(path, why, why_size);
	if (errno != EEXIST) {
		snprintf(why, why_size, "cannot make the directory %s: %s", path, strerror(errno));
		return -errno;
	}
	if (stat(path, &st) || !S_ISDIR(st.st_mode)) {
		snprintf(why, why_size, "%s is not a directory: give another --data-dir", path);
		return -ENOTDIR;
	}
	return 0;
}

/* One that may be left of a start which ended before its name was durable. */
static int make_own_dir(const char *path, char *why, size_t why_size)
{
	int err = make_dir(path, why, why_size);

	return err ? err : sync_name(path, why, why_size);
}

/* With the directories above it, as etcd makes them. */
static int make_dirs(const char *path, char *why, size_t why_size)
{
	char *copy = strdup(path), *at = copy;
	int err = 0;

	if (!copy) {
		snprintf(why, why_size, "out of memory");
		return -ENOMEM;
	}
	while (!err && *at && (at = strchr(at + 1, '/'))) {
		*at = 0;
		err = make_dir(copy, why, why_size);
		*at = '/';
	}
	free(copy);
	return err ? err : make_dir(path, why, why_size);
}

static bool exists(const char *path)
{
	return !access(path, F_OK) || errno != ENOENT;
}

static int probe(const struct kvd_config *config, const struct paths *p, char *why,
		 size_t why_size)
{
	struct stat st;
	bool wal = exists(p->wal), kv = exists(p->kv);

	if (!stat(config->data_dir, &st) && !S_ISDIR(st.st_mode)) {
		snprintf(why, why_size, "%s is not a directory: give another --data-dir",
			 config->data_dir);
		return -ENOTDIR;
	}
	if (exists(p->etcd_db)) {
		snprintf(why, why_size, "%s is a data directory of etcd (it has %s), not of kvd: "
			 "give another --data-dir", config->data_dir, p->etcd_db);
		return -EINVAL;
	}
	if (kv && !wal) {
		snprintf(why, why_size, "the log %s is missing, though the store %s is there: put "
			 "it back or give its --wal-dir", p->wal, p->kv);
		return -ENOENT;
	}
	return wal;
}

int disk_probe(const struct kvd_config *config, char *why, size_t why_size)
{
	struct paths p = { 0 };
	int err = paths_make(config, &p);

	if (err) {
		snprintf(why, why_size, "out of memory");
		return err;
	}
	err = probe(config, &p, why, why_size);
	paths_release(&p);
	return err;
}

/* --- the log's metadata: etcdserverpb.Metadata {NodeID, ClusterID} -------- */

static struct slice encode_identity(const struct disk_identity *id, uint8_t buf[32])
{
	uint8_t *p = wire_put_u64_field(buf, 1, id->member_id);

	p = wire_put_u64_field(p, 2, id->cluster_id);
	return slice_of(buf, (size_t)(p - buf));
}

static int decode_identity(struct slice s, struct disk_identity *out)
{
	struct wire_field f;
	int err;

	*out = (struct disk_identity){ 0 };
	while ((err = wire_next(&s, &f)) > 0) {
		if (f.number == 1)
			out->member_id = f.value;
		else if (f.number == 2)
			out->cluster_id = f.value;
	}
	return err < 0 || !out->member_id || !out->cluster_id ? -EBADMSG : 0;
}

/* --- opening -------------------------------------------------------------- */

/* What an interrupted first start left: files alone, no directories. */
static void remove_unfinished(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	if (!dir)
		return;
	while ((e = readdir(dir)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(dirfd(dir), e->d_name, 0);
	closedir(dir);
	rmdir(path);
}

static int fill_log(const struct wal_args *args, const struct disk_first *first, char *why,
		    size_t why_size)
{
	struct raft_hard_state hs = { .term = 1, .commit = first->n_entries };
	struct wal *wal;
	uint8_t buf[32];
	int err = wal_create(args, encode_identity(&first->identity, buf), &wal, why, why_size);

	if (err)
		return err;
	err = wal_append(wal, first->entries, first->n_entries, &hs);
	if (!err)
		err = wal_sync(wal);
	if (err)
		snprintf(why, why_size, "cannot write the log %s: %s", args->dir, strerror(-err));
	wal_close(wal);
	return err;
}

/* A new log with the entries that make the cluster. It gets its name when it is whole
 * and durable, so that a first start that is interrupted begins again. */
static int create_log(const struct wal_args *args, const struct disk_first *first, char *why,
		      size_t why_size)
{
	struct wal_args unfinished = *args;
	char *path;
	int err;

	if (asprintf(&path, "%s.new", args->dir) < 0)
		return -ENOMEM;
	unfinished.dir = path;
	remove_unfinished(path);
	err = fill_log(&unfinished, first, why, why_size);
	if (!err && (rename(path, args->dir) || (err = sync_parent(args->dir)))) {
		err = err ? err : -errno;
		snprintf(why, why_size, "cannot give the new log its name %s: %s", args->dir,
			 strerror(-err));
	}
	if (err)
		remove_unfinished(path);
	free(path);
	return err;
}

static int open_store(struct disk *disk, const struct kvd_config *config, const char *dir,
		      char *why, size_t why_size)
{
	struct mvcc_bdb_args bdb = {
		.dir = dir, .cache_bytes = 32 << 20,
	};
	struct mvcc_args args = { .cache_bytes = (size_t)config->cache_bytes };
	int err = make_own_dir(dir, why, why_size);

	if (!err)
		err = mvcc_bdb_open(&bdb, &disk->backend, why, why_size);
	if (!err)
		err = mvcc_open(disk->backend, &args, &disk->store, why, why_size);
	return err;
}

static int open_log(struct disk *disk, const struct wal_args *args,
		    struct wal_contents *contents, struct disk_identity *identity,
		    char *why, size_t why_size)
{
	struct core_applied applied = core_applied_in(disk->store);
	int err = wal_open(args, applied.index, contents, &disk->wal, why, why_size);

	if (err)
		return err;
	err = decode_identity(contents->metadata ? blob_slice(contents->metadata) :
						   SLICE_LIT(""), identity);
	if (err) {
		snprintf(why, why_size, "the log %s does not say whose it is", args->dir);
		return err;
	}
	if (applied.index && applied.cluster_id != identity->cluster_id) {
		snprintf(why, why_size, "the store is of cluster %llx, and the log %s of cluster "
			 "%llx: put the store back that goes with the log",
			 (unsigned long long)applied.cluster_id, args->dir,
			 (unsigned long long)identity->cluster_id);
		return -EINVAL;
	}
	/* what is applied was in the log first */
	if (wal_last_index(disk->wal) < applied.index) {
		snprintf(why, why_size, "the log %s ends at entry %llu, though the store holds "
			 "%llu: it is older than the store; put the newer one back", args->dir,
			 (unsigned long long)wal_last_index(disk->wal),
			 (unsigned long long)applied.index);
		return -ENODATA;
	}
	return 0;
}

int disk_open(struct disk *disk, const struct kvd_config *config, const struct disk_first *first,
	      struct wal_contents *contents, struct disk_identity *identity,
	      char *why, size_t why_size)
{
	struct wal_args args = { .no_sync = config->unsafe_no_fsync };
	struct paths p = { 0 };
	int found, err = paths_make(config, &p);

	if (err)
		return err;
	args.dir = p.wal;
	found = err = probe(config, &p, why, why_size);
	if (err >= 0)
		err = make_dirs(config->data_dir, why, why_size);
	if (!err)
		err = make_own_dir(p.member, why, why_size);
	if (!err)
		err = found ? sync_found(p.wal, why, why_size) :
			      create_log(&args, first, why, why_size);
	if (!err)
		err = open_store(disk, config, p.kv, why, why_size);
	if (!err)
		err = open_log(disk, &args, contents, identity, why, why_size);
	paths_release(&p);
	return err;
}

/* --- the log thread ------------------------------------------------------- */

static void die(const char *what, int err)
{
	log_fatal("the disk failed; ending, so that nothing is acknowledged that is not durable",
		  LOG_STR("while", what), LOG_ERR(err));
	_exit(1);
}

static void write_log(struct disk *disk, struct core_append *a)
{
	uint64_t began = uv_hrtime();
	int err = wal_append(disk->wal, a->entries, a->n_entries,
			     a->has_hard_state ? &a->hard_state : NULL);

	if (err)
		die("appending to the log", err);
	a->write_ns = MAX(uv_hrtime() - began, (uint64_t)1);
	a->written = wal_written(disk->wal);
}

/* How long it took, in nanoseconds, at least one. */
static uint64_t sync_log(struct disk *disk)
{
	uint64_t began = uv_hrtime();
	int err = wal_sync(disk->wal);

	if (err)
		die("syncing the log", err);
	return MAX(uv_hrtime() - began, (uint64_t)1);
}

/* Everything that has queued, then one sync for all of it. */
static void run_log(struct worker *worker, struct list *jobs)
{
	struct disk *disk = worker->user;
	struct core_append *a;
	bool sync = false;
	int err;

	list_for_each(a, jobs, node) {
		if (!a->n_entries && !a->has_hard_state)
			continue;
		write_log(disk, a);
		sync |= a->sync;
	}
	if (sync)
		list_first(jobs, struct core_append, node)->sync_ns = sync_log(disk);
	list_for_each(a, jobs, node) {
		if (!a->snapshot.index)
			continue;
		if ((err = wal_snapshot(disk->wal, &a->snapshot)) ||
		    (err = wal_release(disk->wal, a->release_index)))
			die("shortening the log", err);
	}
}

static void logged(struct worker *worker, struct list *jobs)
{
	struct disk *disk = worker->user;
	struct core_append *a, *next;
	int err;

	list_for_each_safe(a, next, jobs, node) {
		list_del(&a->node);
		disk->under_way--;
		if (a->write_ns)
			histogram_add(&disk->writes, HISTOGRAM_SECONDS, a->write_ns);
		if (a->sync_ns)
			histogram_add(&disk->syncs, HISTOGRAM_SECONDS, a->sync_ns);
		disk->written = MAX(disk->written, a->written);
		err = core_appended(disk->core, a);
		if (err)
			die("taking in what is logged", err);
	}
}

/* --- the store thread ----------------------------------------------------- */

/* With the store's own words, which name the file and where in it. */
static void die_of_store(struct disk *disk, const char *what, int err)
{
	log_fatal("the store failed; ending, so that nothing is answered that is not sure",
		  LOG_STR("while", what), LOG_STR("why", mvcc_backend_why(disk->backend)),
		  LOG_ERR(err));
	_exit(1);
}

struct store_job {
	struct list node;
	struct core_batch *batch;	/* or */
	struct fetch_job *fetch;	/* or */
	struct hash_job *hash;		/* or */
	struct reclaim_job *reclaim;	/* or */
	struct scrub_job *scrub;
};

static void write_batch(struct disk *disk, struct core_batch *batch)
{
	uint64_t began = uv_hrtime();
	int err = mvcc_backend_write(disk->backend, batch->batch);

	if (!err && batch->sync)
		err = mvcc_backend_sync(disk->backend);
	batch->commit_ns = uv_hrtime() - began;
	if (!err)
		err = mvcc_backend_size(disk->backend, &batch->size);
	if (err)
		die_of_store(disk, "writing to the store", err);
}

static void add_to_crc(void *arg, struct slice bytes)
{
	uint32_t *crc = arg;

	*crc = crc32c(*crc, bytes);
}

static void hash_slice(struct disk *disk, struct hash_job *job)
{
	int r = mvcc_backend_hash(disk->backend, &job->hash, HASH_BYTES, add_to_crc, &job->crc);

	if (r < 0)
		die_of_store(disk, "hashing the store", r);
	job->more = r;
}

static void reclaim_slice(struct disk *disk, struct reclaim_job *job)
{
	int r = mvcc_backend_reclaim(disk->backend, RECLAIM_BYTES);

	if (r >= 0) {
		job->more = r;
		r = mvcc_backend_size(disk->backend, &job->size);
	}
	if (r < 0)
		die_of_store(disk, "giving space back", r);
}

/* Damage does not end the process: it serves what is whole. */
static void scrub_slice(struct disk *disk, struct scrub_job *job)
{
	int r = mvcc_backend_scrub(disk->backend, &job->scrub, SCRUB_BYTES);

	job->more = r > 0;
	job->damaged = r == -EBADMSG;
	if (job->damaged)
		log_error("the store is damaged; restore it from another member or from a "
			  "snapshot", LOG_STR("what", job->scrub.what));
	else if (r < 0)
		die_of_store(disk, "scrubbing the store", r);
	else if (!r)
		log_info("scrubbed the store", LOG_I64("pages", job->scrub.pages),
			 LOG_I64("records", job->scrub.records),
			 LOG_I64("log-bytes", job->scrub.log_bytes));
}

static void run_store(struct worker *worker, struct list *jobs)
{
	struct disk *disk = worker->user;
	struct store_job *job;
	int err;

	list_for_each(job, jobs, node) {
		if (job->batch)
			write_batch(disk, job->batch);
		else if (job->hash)
			hash_slice(disk, job->hash);
		else if (job->reclaim)
			reclaim_slice(disk, job->reclaim);
		else if (job->scrub)
			scrub_slice(disk, job->scrub);
		else if ((err = mvcc_backend_fetch(disk->backend, job->fetch->fetch)))
			die_of_store(disk, "reading from the store", err);
	}
}

static void stored(struct worker *worker, struct list *jobs)
{
	struct disk *disk = worker->user;
	struct store_job *job, *next;

	list_for_each_safe(job, next, jobs, node) {
		list_del(&job->node);
		disk->under_way--;
		if (job->batch) {
			histogram_add(&disk->commits, HISTOGRAM_SECONDS,
				      job->batch->commit_ns);
			core_stored(disk->core, job->batch);
		} else if (job->hash) {
			core_hashed(disk->core, job->hash);
		} else if (job->reclaim) {
			core_reclaimed(disk->core, job->reclaim);
		} else if (job->scrub) {
			core_scrubbed(disk->core, job->scrub);
		} else {
			core_fetched(disk->core, job->fetch);
		}
		free(job);
	}
}

static void submit_store(struct disk *disk, const struct store_job *what)
{
	struct store_job *job = malloc(sizeof(*job));

	if (!job)
		die("handing work to the store", -ENOMEM);
	*job = *what;
	disk->under_way++;
	worker_submit(&disk->writer, &job->node);
}

/* --- both ----------------------------------------------------------------- */

int disk_start(struct disk *disk, struct core *core, uv_loop_t *loop)
{
	int err;

	disk->core = core;
	disk->log = (struct worker){ .run = run_log, .done = logged, .user = disk };
	disk->writer = (struct worker){
		.run = run_store, .done = stored, .user = disk, .nice = STORE_NICE,
	};
	err = worker_start(&disk->log, loop, "kvd-log");
	if (err)
		return err;
	disk->started[0] = &disk->log;
	err = worker_start(&disk->writer, loop, "kvd-store");
	if (!err)
		disk->started[1] = &disk->writer;
	return err;
}

void disk_submit(struct disk *disk, uint64_t now, bool all)
{
	struct core_append *append;
	struct core_batch *batch;
	struct fetch_job *fetch;
	struct reclaim_job *reclaim;
	struct scrub_job *scrub;
	struct hash_job *hash;

	while ((append = core_take_append(disk->core))) {
		disk->under_way++;
		worker_submit(&disk->log, &append->node);
	}
	while ((fetch = core_take_fetch(disk->core)))
		submit_store(disk, &(struct store_job){ .fetch = fetch });
	while ((hash = core_take_hash(disk->core)))
		submit_store(disk, &(struct store_job){ .hash = hash });
	batch = core_take_batch(disk->core, now, all);
	if (batch)
		submit_store(disk, &(struct store_job){ .batch = batch });
	reclaim = core_take_reclaim(disk->core);
	if (reclaim)
		submit_store(disk, &(struct store_job){ .reclaim = reclaim });
	scrub = core_take_scrub(disk->core);
	if (scrub)
		submit_store(disk, &(struct store_job){ .scrub = scrub });
}

bool disk_idle(const struct disk *disk)
{
	return !disk->under_way;
}

void disk_stop(struct disk *disk)
{
	for (size_t i = 0; i < ARRAY_SIZE(disk->started); i++) {
		if (disk->started[i])
			worker_stop(disk->started[i]);
		disk->started[i] = NULL;
	}
}

void disk_close(struct disk *disk)
{
	wal_close(disk->wal);
	mvcc_free(disk->store);
	mvcc_backend_close(disk->backend);
	disk->wal = NULL;
	disk->store = NULL;
	disk->backend = NULL;
}
