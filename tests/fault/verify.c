// SPDX-License-Identifier: Apache-2.0
/* Whether a store is as it was after some batch of a history. See model.h. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libmvcc/mvcc_i.h"
#include "tests/fault/image.h"
#include "tests/fault/model.h"

/* --- everything that is stored -------------------------------------------- */

static void digest_add(uint64_t *digest, struct slice s)
{
	uint64_t h = *digest ^ s.len, word;

	for (size_t i = 0; i < s.len; i += sizeof(word)) {
		word = 0;
		memcpy(&word, s.data + i, MIN(s.len - i, sizeof(word)));
		h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	*digest = h;
}

static int digest_revision(void *arg, int64_t main, uint32_t sub, struct slice kv)
{
	uint8_t key[REV_KEY_MAX];

	digest_add(arg, slice_of(key, rev_key_encode(key, main, sub)));
	digest_add(arg, kv);
	return 0;
}

/* What a backend says of its own files is not part of it. */
static int digest_record(void *arg, struct slice key, struct slice value)
{
	if (slice_has_prefix(key, SLICE_LIT("\0format")) ||
	    slice_has_prefix(key, SLICE_LIT("\0segment")))
		return 0;
	digest_add(arg, key);
	digest_add(arg, value);
	return 0;
}

int backend_digest(struct mvcc_backend *backend, uint64_t *out)
{
	int r;

	*out = DIGEST_EMPTY;
	r = backend->ops->scan(backend, (struct mvcc_rev){ 0 }, digest_revision, out);
	return r ? r : backend->ops->scan_records(backend, digest_record, out);
}

/* --- what can be read ----------------------------------------------------- */

__printf(3, 4)
static bool wrong(struct verdict *out, int error, const char *format, ...)
{
	va_list args;

	out->kind = WRONG;
	out->error = error;
	va_start(args, format);
	vsnprintf(out->text, sizeof(out->text), format, args);
	va_end(args);
	return false;
}

/* @encoded is what the model says of @v. */
static bool kv_right(struct blob *encoded, const struct version *v)
{
	uint8_t name[NAME_MAX_BYTES], value[VALUE_MAX];
	struct mvcc_kv kv;

	return !mvcc_kv_decode(blob_slice(encoded), &kv) &&
	       slice_eq(kv.key, model_key(v->key, name)) && kv.mod_revision == v->main &&
	       kv.create_revision == v->create && kv.version == v->version &&
	       kv.lease == v->lease && slice_eq(kv.value, model_value(v, value));
}

static int read_all(struct session *s, int64_t revision, struct mvcc_result *out)
{
	const struct mvcc_read read = {
		.range = { SLICE_LIT("k"), SLICE_LIT("\0") }, .revision = revision,
	};
	struct mvcc_fetch fetch;
	int r;

	mvcc_fetch_init(&fetch);
	while ((r = mvcc_range(s->store, &read, &fetch, out)) == MVCC_COLD)
		if ((r = mvcc_backend_fetch(s->backend, &fetch)))
			break;
	mvcc_fetch_release(&fetch);
	return r;
}

/* The keys as they were at @revision. */
static bool range_right(struct session *s, size_t batch, int64_t revision, struct verdict *out)
{
	const struct version *last[MODEL_KEYS] = { NULL }, *v = model_versions(s->model);
	size_t n = model_boundary(s->model, batch)->versions, at = 0;
	struct mvcc_result result;
	bool right = true;
	int r;

	for (; n && v->main <= revision; n--, v++)
		last[v->key] = v->tombstone ? NULL : v;
	mvcc_result_init(&result);
	r = read_all(s, revision, &result);
	if (r)
		right = wrong(out, r, "reading at revision %lld", (long long)revision);
	for (int key = 0; key < MODEL_KEYS && right; key++) {
		if (!last[key])
			continue;
		if (at == result.n || !kv_right(result.kvs[at++], last[key]))
			right = wrong(out, 0, "after batch %zu, key %d at revision %lld", batch,
				      key, (long long)revision);
	}
	if (right && (at != result.n || result.count != (int64_t)at))
		right = wrong(out, 0, "after batch %zu, %zu keys at revision %lld, not %zu",
			      batch, result.n, (long long)revision, at);
	mvcc_result_release(&result);
	return right;
}

static bool event_right(const struct mvcc_event *e, const struct version *v)
{
	uint8_t name[NAME_MAX_BYTES];
	struct mvcc_kv kv;

	if (e->mod_revision != v->main || (e->type == MVCC_DELETE) != v->tombstone)
		return false;
	if (!v->tombstone)
		return kv_right(e->kv, v);
	return !mvcc_kv_decode(blob_slice(e->kv), &kv) && kv.mod_revision == v->main &&
	       slice_eq(kv.key, model_key(v->key, name));
}

/* Every version above the compact revision, in order. */
static bool watch_right(struct session *s, struct mvcc_watcher *w, size_t batch,
			struct verdict *out)
{
	const struct boundary *b = model_boundary(s->model, batch);
	const struct version *v = model_versions(s->model), *end = v + b->versions;
	struct mvcc_fetch fetch;
	struct mvcc_events ev;
	bool right = true;
	int r;

	while (v < end && v->main <= b->compacted)
		v++;
	mvcc_fetch_init(&fetch);
	mvcc_events_init(&ev);
	for (;;) {
		r = mvcc_watch_next(s->store, w, 50, &fetch, &ev);
		if (r == MVCC_COLD && !(r = mvcc_backend_fetch(s->backend, &fetch)))
			continue;
		if (r || !ev.n)
			break;
		for (size_t i = 0; i < ev.n && right; i++)
			if (v == end || !event_right(&ev.events[i], v++))
				right = wrong(out, 0, "after batch %zu, the event of revision %lld",
					      batch, (long long)ev.events[i].mod_revision);
		mvcc_fetch_release(&fetch);
	}
	if (right && (r || v != end))
		right = wrong(out, r, "after batch %zu, watching ended early", batch);
	mvcc_events_release(&ev);
	mvcc_fetch_release(&fetch);
	return right;
}

static bool history_right(struct session *s, size_t batch, struct verdict *out)
{
	const struct mvcc_watch_args args = {
		.range = { SLICE_LIT("k"), SLICE_LIT("\0") },
		.start_revision = MAX(model_boundary(s->model, batch)->compacted, (int64_t)0) + 1,
	};
	struct mvcc_watcher *w;
	bool right;
	int r = mvcc_watch(s->store, &args, &w);

	if (r)
		return wrong(out, r, "watching");
	mvcc_watch_ready(s->store);
	right = watch_right(s, w, batch, out);
	mvcc_unwatch(s->store, w);
	return right;
}

bool session_right(struct session *s, size_t batch, struct verdict *out)
{
	const struct boundary *b = model_boundary(s->model, batch);
	int64_t oldest = MAX(b->compacted, (int64_t)1), revision = mvcc_revision(s->store);

	if (revision != b->revision || mvcc_compact_revision(s->store) != b->compacted)
		return wrong(out, 0, "after batch %zu, at revision %lld, not %lld", batch,
			     (long long)revision, (long long)b->revision);
	mvcc_check(s->store);
	return range_right(s, batch, revision, out) &&
	       range_right(s, batch, oldest, out) &&
	       range_right(s, batch, oldest + (revision - oldest) / 2, out) &&
	       history_right(s, batch, out);
}

/* --- a store that was hurt ------------------------------------------------ */

struct verification {
	const struct model *model;
	const char *dir;
	bool carry_on;
	struct verdict *out;
	struct progress *progress;
};

/* It must say why; damage, and nothing else. */
static void refused(struct verification *v, int error)
{
	v->out->kind = v->progress->why[0] ? REFUSED : WRONG;
	v->out->error = error;
	snprintf(v->out->text, sizeof(v->out->text), "%s", v->progress->why[0] ?
		 v->progress->why : "refused without a word");
}

static void look(struct verification *v, struct session *s)
{
	size_t batch = session_batch(s), last = model_batches(v->model);
	uint64_t digest;
	int r;

	v->out->batch = batch;
	if (batch > last) {
		wrong(v->out, 0, "the record says batch %zu", batch);
		return;
	}
	r = backend_digest(s->backend, &digest);
	if (r)
		wrong(v->out, r, "reading all that is stored: %s",
		      s->backend->ops->why(s->backend));
	else if (digest != model_boundary(v->model, batch)->digest)
		wrong(v->out, 0, "what is stored is not what batch %zu left", batch);
	else if (session_right(s, batch, v->out))
		v->out->kind = RIGHT;
	if (v->out->kind != RIGHT || !v->carry_on)
		return;
	r = model_run(s, batch, last);
	if (r)
		wrong(v->out, r, "carrying on after batch %zu: %s: %s", batch, v->progress->what,
		      v->progress->why);
	else
		session_right(s, last, v->out);
}

static void verify_child(void *arg)
{
	struct verification *v = arg;
	struct session s = { .trace = -1, .progress = v->progress };
	int r = session_open(&s, v->model, v->dir);

	if (r)
		refused(v, r);
	else
		look(v, &s);
	session_close(&s);
	/* Berkeley DB does not free all that it has where it found damage */
	if (v->out->kind != RIGHT)
		_exit(0);
}

void verify(const struct model *model, const char *dir, bool carry_on, struct verdict *out)
{
	struct verification v = { .model = model, .dir = dir, .carry_on = carry_on };
	struct { struct verdict verdict; struct progress progress; } *shared;
	int status;

	shared = shared_memory(sizeof(*shared));
	v.out = &shared->verdict;
	v.progress = &shared->progress;
	status = in_child(verify_child, &v);
	*out = shared->verdict;
	if (status)
		wrong(out, 0, "crashed with status %#x; %.*s", status, (int)sizeof(out->text) / 2,
		      shared->verdict.text);
	munmap(shared, sizeof(*shared));
}

/* --- processes and directories -------------------------------------------- */

void *shared_memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	BUG_ON(p == MAP_FAILED);
	return p;
}

#define CHILD_SECONDS 20

int in_child(void (*fn)(void *arg), void *arg)
{
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	BUG_ON(pid < 0);
	if (!pid) {
		alarm(CHILD_SECONDS);	/* what hangs is found, too */
		fn(arg);
		exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		BUG_ON(errno != EINTR);
	return status;
}

static char dir[64];
static pid_t dir_owner;

static void remove_dir(void)
{
	if (getpid() == dir_owner)
		remove_below(dir, true);
}

const char *test_dir(void)
{
	const char *base = access("/dev/shm", W_OK) ? getenv("TMPDIR") : "/dev/shm";

	if (!dir[0]) {
		snprintf(dir, sizeof(dir), "%s/kvd-fault.XXXXXX", base ? base : "/tmp");
		BUG_ON(!mkdtemp(dir));
		dir_owner = getpid();
		atexit(remove_dir);
	}
	return dir;
}
