// SPDX-License-Identifier: Apache-2.0
/*
 * Runs the scripts under tests/data/mvcc: commands, a line of four dashes, what
 * they are expected to print, an empty line. Every script runs over both backends,
 * and over each of them in three tempers that must make no difference: as it is;
 * with everything stored and evicted after every command, so that all reads are
 * cold; and restarted after every command (while nobody watches).
 *
 *	KVD_REWRITE=1	writes what was printed into the script, as expected
 *
 * The commands are in the table at the end of this file. A word has \0 for a zero
 * byte and \xff for any other; options are name=value or names alone.
 */
#include "tests/unit/mvcc_util.h"

#define OUT_MAX 65536
#define WORDS_MAX 16
#define WATCHERS_MAX 16

enum temper { PLAIN, COLD, RESTARTED, N_TEMPERS };

static const char *const temper_names[] = { "plain", "cold", "restarted" };

struct script {
	struct rig rig;
	enum temper temper;
	bool in_txn;
	struct mvcc_fetch held;		/* by the transaction */
	struct mvcc_watcher *watchers[WATCHERS_MAX];
	char out[OUT_MAX];
	size_t len;
};

struct words {
	char *word[WORDS_MAX];
	size_t n;
};

__printf(2, 3)
static void say(struct script *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	s->len += (size_t)vsnprintf(s->out + s->len, OUT_MAX - s->len, format, args);
	va_end(args);
	assert_true(s->len < OUT_MAX);
}

static void say_slice(struct script *s, struct slice bytes)
{
	for (size_t i = 0; i < bytes.len; i++) {
		uint8_t c = bytes.data[i];

		say(s, !c ? "\\0" : c > ' ' && c < 0x7f ? "%c" : "\\x%02x", c);
	}
}

/* --- words ---------------------------------------------------------------- */

/* Turns \0 and \xff into bytes; the slice points to memory that lives for the command. */
static struct slice unescape(char *word)
{
	char hex[3] = "";
	size_t n = 0;

	for (const char *p = word; *p; p++) {
		if (p[0] == '\\' && p[1] == '0') {
			word[n++] = '\0';
			p++;
		} else if (p[0] == '\\' && p[1] == 'x' && p[2] && p[3]) {
			memcpy(hex, p + 2, 2);
			word[n++] = (char)strtoul(hex, NULL, 16);
			p += 3;
		} else {
			word[n++] = *p;
		}
	}
	return slice_of(word, n);
}

static bool is_option(const char *word)
{
	static const char *const flags[] = {
		"keys_only", "count_only", "hold", "no_put", "no_delete", "prev_kv",
	};

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (!strcmp(word, flags[i]))
			return true;
	return strchr(word, '=');
}

static bool flag(const struct words *w, const char *name)
{
	for (size_t i = 1; i < w->n; i++)
		if (!strcmp(w->word[i], name))
			return true;
	return false;
}

static const char *option(const struct words *w, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 1; i < w->n; i++)
		if (!strncmp(w->word[i], name, n) && w->word[i][n] == '=')
			return w->word[i] + n + 1;
	return NULL;
}

static int64_t number(const struct words *w, const char *name)
{
	const char *v = option(w, name);

	return v ? strtoll(v, NULL, 10) : 0;
}

static int choice(const struct words *w, const char *name, const char *const *names, size_t n)
{
	const char *v = option(w, name);

	for (size_t i = 0; v && i < n; i++)
		if (!strcmp(v, names[i]))
			return (int)i;
	if (v)
		fail_msg("%s=%s is not known", name, v);
	return 0;
}

static struct mvcc_key_range range_at(const struct words *w, size_t i)
{
	struct mvcc_key_range range = { .end = { 0 } };

	range.key = unescape(w->word[i]);
	if (i + 1 < w->n && !is_option(w->word[i + 1]))
		range.end = unescape(w->word[i + 1]);
	return range;
}

/* --- printing ------------------------------------------------------------- */

static void say_outcome(struct script *s, int r)
{
	say(s, "%s\n", r == MVCC_COMPACTED ? "compacted" : r == MVCC_FUTURE ? "future" :
	    strerror(-r));
}

static void say_kv(struct script *s, const struct blob *blob)
{
	struct mvcc_kv kv;

	assert_int_equal(mvcc_kv_decode(blob_slice(blob), &kv), 0);
	say_slice(s, kv.key);
	say(s, "=");
	say_slice(s, kv.value);
	say(s, " create %" PRId64 " mod %" PRId64 " version %" PRId64, kv.create_revision,
	    kv.mod_revision, kv.version);
	if (kv.lease)
		say(s, " lease %" PRId64, kv.lease);
}

/* --- commands ------------------------------------------------------------- */

static void cmd_begin(struct script *s, const struct words *w)
{
	mvcc_begin(s->rig.store);
	s->in_txn = true;
}

static void cmd_end(struct script *s, const struct words *w)
{
	say(s, "revision %" PRId64 "\n", mvcc_end(s->rig.store));
	s->in_txn = false;
	mvcc_fetch_release(&s->held);
}

static void cmd_put(struct script *s, const struct words *w)
{
	struct mvcc_put put = { .lease = number(w, "lease") };
	bool alone = !s->in_txn;

	put.key = unescape(w->word[1]);
	if (w->n > 2 && !option(w, "lease"))
		put.value = unescape(w->word[2]);
	else if (w->n > 3)
		put.value = unescape(w->word[2]);
	if (alone)
		mvcc_begin(s->rig.store);
	assert_int_equal(mvcc_put(s->rig.store, &put), 0);
	if (alone)
		say(s, "revision %" PRId64 "\n", mvcc_end(s->rig.store));
}

static void cmd_delete(struct script *s, const struct words *w)
{
	struct mvcc_result result;
	bool alone = !s->in_txn;

	mvcc_result_init(&result);
	if (alone)
		mvcc_begin(s->rig.store);
	assert_int_equal(mvcc_delete_range(s->rig.store, range_at(w, 1), &result), 0);
	say(s, "deleted %" PRId64, result.count);
	for (size_t i = 0; i < result.n; i++) {
		struct mvcc_kv kv;

		assert_int_equal(mvcc_kv_decode(blob_slice(result.kvs[i]), &kv), 0);
		assert_int_equal(kv.mod_revision, 0);
		say(s, " ");
		say_slice(s, kv.key);
	}
	say(s, "\n");
	if (alone)
		say(s, "revision %" PRId64 "\n", mvcc_end(s->rig.store));
	mvcc_result_release(&result);
}

/* What a transaction reads of the past it holds first, and writes after; then nothing
 * may be missing from memory. */
static int hold(struct script *s, const struct mvcc_read *read, struct mvcc_result *out)
{
	int r;

	s->held.keep = true;
	while ((r = mvcc_range(s->rig.store, read, &s->held, out)) == MVCC_COLD)
		assert_int_equal(mvcc_backend_fetch(s->rig.backend, &s->held), 0);
	s->held.keep = false;
	return r;
}

static int read_range(struct script *s, const struct words *w, const struct mvcc_read *read,
		      struct mvcc_result *out)
{
	int r;

	if (flag(w, "hold"))
		return hold(s, read, out);
	if (!s->held.n)
		return rig_range(&s->rig, read, out);
	r = mvcc_range(s->rig.store, read, &s->held, out);
	assert_int_not_equal(r, MVCC_COLD);
	return r;
}

static void cmd_get(struct script *s, const struct words *w)
{
	static const char *const orders[] = { "none", "ascend", "descend" };
	static const char *const targets[] = { "key", "version", "create", "mod", "value" };
	struct mvcc_read read = {
		.limit = number(w, "limit"),
		.revision = number(w, "revision"),
		.sort_order = (enum mvcc_sort_order)choice(w, "order", orders, 3),
		.sort_target = (enum mvcc_sort_target)choice(w, "target", targets, 5),
		.keys_only = flag(w, "keys_only"),
		.count_only = flag(w, "count_only"),
		.min_mod_revision = number(w, "min_mod"),
		.max_mod_revision = number(w, "max_mod"),
		.min_create_revision = number(w, "min_create"),
		.max_create_revision = number(w, "max_create"),
		.range = range_at(w, 1),
	};
	struct mvcc_result result;
	int r;

	mvcc_result_init(&result);
	r = read_range(s, w, &read, &result);
	if (r) {
		say_outcome(s, r);
		return;
	}
	for (size_t i = 0; i < result.n; i++) {
		say_kv(s, result.kvs[i]);
		say(s, "\n");
	}
	say(s, "count %" PRId64 "%s\n", result.count, result.more ? " more" : "");
	mvcc_result_release(&result);
}

static void cmd_find(struct script *s, const struct words *w)
{
	struct mvcc_key_info info;

	if (!mvcc_find(s->rig.store, unescape(w->word[1]), &info))
		say(s, "none\n");
	else
		say(s, "create %" PRId64 " mod %" PRId64 ".%" PRId64 " version %" PRId64 "\n",
		    info.create_revision, info.mod.main, info.mod.sub, info.version);
}

static void cmd_compact(struct script *s, const struct words *w)
{
	int r = mvcc_compact(s->rig.store, strtoll(w->word[1], NULL, 10));

	if (r) {
		say_outcome(s, r);
		return;
	}
	while (mvcc_compact_step(s->rig.store, 1) > 0)
		mvcc_check(s->rig.store);
	say(s, "ok\n");
}

/* The revision moves, the work is left for later. */
static void cmd_compact_begin(struct script *s, const struct words *w)
{
	int r = mvcc_compact(s->rig.store, strtoll(w->word[1], NULL, 10));

	if (r)
		say_outcome(s, r);
}

static void cmd_compact_step(struct script *s, const struct words *w)
{
	int r = mvcc_compact_step(s->rig.store, strtoul(w->word[1], NULL, 10));

	say(s, "%s\n", r > 0 ? "more" : "done");
}

static void cmd_revisions(struct script *s, const struct words *w)
{
	struct mvcc_stats stats;

	mvcc_stats(s->rig.store, &stats);
	say(s, "at %" PRId64 " compacted %" PRId64 " keys %" PRId64 " revisions %" PRId64 "\n",
	    mvcc_revision(s->rig.store), mvcc_compact_revision(s->rig.store), stats.keys,
	    stats.revisions);
}

static void cmd_restart(struct script *s, const struct words *w)
{
	rig_store(&s->rig);
	rig_restart(&s->rig);
}

static void cmd_store(struct script *s, const struct words *w)
{
	rig_store(&s->rig);
}

/* --- commands: the hash --------------------------------------------------- */

static void crc32c(void *arg, struct slice bytes)
{
	uint32_t *crc = arg, c = ~*crc;

	for (size_t i = 0; i < bytes.len; i++) {
		c ^= bytes.data[i];
		for (int bit = 0; bit < 8; bit++)
			c = c >> 1 ^ (c & 1 ? 0x82f63b78 : 0);
	}
	*crc = ~c;
}

/* As HashKV answers: the hash, and the compact revision that it was made under. */
static void cmd_hash(struct script *s, const struct words *w)
{
	int64_t revision = w->n > 1 ? strtoll(w->word[1], NULL, 10) : 0;
	struct mvcc_hash hash;
	uint32_t crc = 0;
	int r = mvcc_hash_begin(s->rig.store, revision, &hash);

	if (r) {
		say_outcome(s, r);
		return;
	}
	while ((r = mvcc_hash_step(s->rig.store, &hash, 2)) > 0)
		;
	assert_int_equal(r, 0);
	rig_store(&s->rig);
	while ((r = mvcc_backend_hash(s->rig.backend, &hash, 100, crc32c, &crc)) > 0)
		;
	assert_int_equal(r, 0);
	say(s, "hash %u of %" PRId64 " compacted %" PRId64 "\n", crc, hash.revision,
	    hash.compact_revision);
	mvcc_hash_release(&hash);
}

/* --- commands: watching --------------------------------------------------- */

static struct mvcc_watcher **watcher(struct script *s, const struct words *w)
{
	size_t i = strtoul(w->word[1], NULL, 10);

	assert_true(i < WATCHERS_MAX);
	return &s->watchers[i];
}

static void cmd_watch(struct script *s, const struct words *w)
{
	struct mvcc_watch_args args = {
		.range = range_at(w, 2),
		.start_revision = number(w, "start"),
		.no_put = flag(w, "no_put"),
		.no_delete = flag(w, "no_delete"),
		.prev_kv = flag(w, "prev_kv"),
		.owner = watcher(s, w),
	};

	int r;

	assert_null(*watcher(s, w));
	r = mvcc_watch(s->rig.store, &args, watcher(s, w));
	if (r) {
		say_outcome(s, r);
		return;
	}
	assert_ptr_equal(mvcc_watcher_owner(*watcher(s, w)), watcher(s, w));
}

static void cmd_unwatch(struct script *s, const struct words *w)
{
	mvcc_unwatch(s->rig.store, *watcher(s, w));
	*watcher(s, w) = NULL;
}

static void say_events(struct script *s, const struct mvcc_events *events)
{
	for (size_t i = 0; i < events->n; i++) {
		const struct mvcc_event *e = &events->events[i];

		say(s, "%s ", e->type == MVCC_PUT ? "put" : "delete");
		say_kv(s, e->kv);
		if (e->prev) {
			say(s, " was ");
			say_kv(s, e->prev);
		}
		say(s, "\n");
	}
	say(s, "seen %" PRId64 "\n", events->revision);
}

static void cmd_next(struct script *s, const struct words *w)
{
	int64_t max = number(w, "max");
	struct mvcc_events events;
	int r;

	mvcc_events_init(&events);
	r = rig_next(&s->rig, *watcher(s, w), max ? (size_t)max : 100, &events);
	if (r)
		say(s, "compacted at %" PRId64 "\n", events.compact_revision);
	else
		say_events(s, &events);
	mvcc_events_release(&events);
}

static void cmd_ready(struct script *s, const struct words *w)
{
	struct mvcc_watcher *one;

	while ((one = mvcc_watch_ready(s->rig.store)))
		say(s, "%d\n",
		    (int)((struct mvcc_watcher **)mvcc_watcher_owner(one) - s->watchers));
}

static void cmd_synced(struct script *s, const struct words *w)
{
	say(s, "%s\n", mvcc_watcher_synced(s->rig.store, *watcher(s, w)) ? "yes" : "no");
}

/* --- commands: small records ---------------------------------------------- */

static void cmd_record_put(struct script *s, const struct words *w)
{
	assert_int_equal(mvcc_record_put(s->rig.store, w->word[1], unescape(w->word[2]),
					 unescape(w->word[3])), 0);
}

static void cmd_record_delete(struct script *s, const struct words *w)
{
	assert_int_equal(mvcc_record_delete(s->rig.store, w->word[1], unescape(w->word[2])), 0);
}

static void cmd_record_get(struct script *s, const struct words *w)
{
	struct slice v = mvcc_record_get(s->rig.store, w->word[1], unescape(w->word[2]));

	if (v.data)
		say_slice(s, v);
	say(s, v.data ? "\n" : "none\n");
}

static int say_record(void *arg, struct slice key, struct slice value)
{
	struct script *s = arg;

	say_slice(s, key);
	say(s, "=");
	say_slice(s, value);
	say(s, "\n");
	return 0;
}

static void cmd_record_each(struct script *s, const struct words *w)
{
	assert_int_equal(mvcc_record_each(s->rig.store, w->word[1], say_record, s), 0);
}

static int say_leased(void *arg, struct slice key, int64_t lease)
{
	struct script *s = arg;

	say_slice(s, key);
	say(s, " lease %" PRId64 "\n", lease);
	return 0;
}

/* After a restart, as its use is. */
static void cmd_leased(struct script *s, const struct words *w)
{
	cmd_restart(s, w);
	assert_int_equal(mvcc_each_leased(s->rig.store, say_leased, s), 0);
}

static const struct command {
	const char *name;
	void (*fn)(struct script *s, const struct words *w);
	size_t words;
} commands[] = {
	{ "begin", cmd_begin, 1 },
	{ "end", cmd_end, 1 },
	{ "put", cmd_put, 2 },			/* key [value] [lease=] */
	{ "delete", cmd_delete, 2 },		/* key [end] */
	{ "get", cmd_get, 2 },			/* key [end] [options]; hold: see read_range() */
	{ "find", cmd_find, 2 },		/* key */
	{ "compact", cmd_compact, 2 },		/* revision */
	{ "compact-begin", cmd_compact_begin, 2 },
	{ "compact-step", cmd_compact_step, 2 },	/* keys */
	{ "hash", cmd_hash, 1 },		/* [revision] */
	{ "revisions", cmd_revisions, 1 },
	{ "restart", cmd_restart, 1 },
	{ "store", cmd_store, 1 },
	{ "watch", cmd_watch, 3 },		/* number key [end] [options] */
	{ "unwatch", cmd_unwatch, 2 },		/* number */
	{ "next", cmd_next, 2 },		/* number [max=] */
	{ "ready", cmd_ready, 1 },
	{ "synced", cmd_synced, 2 },		/* number */
	{ "record-put", cmd_record_put, 4 },	/* bucket key value */
	{ "record-delete", cmd_record_delete, 3 },
	{ "record-get", cmd_record_get, 3 },
	{ "record-each", cmd_record_each, 2 },
	{ "leased", cmd_leased, 1 },
};

/* --- running -------------------------------------------------------------- */

static bool has_watchers(const struct script *s)
{
	for (size_t i = 0; i < WATCHERS_MAX; i++)
		if (s->watchers[i])
			return true;
	return false;
}

static void run_temper(struct script *s)
{
	if (s->in_txn || s->temper == PLAIN)
		return;
	rig_store(&s->rig);
	if (s->temper == RESTARTED && !has_watchers(s))
		rig_restart(&s->rig);
}

static void run_command(struct script *s, char *line)
{
	struct words w = { .n = 0 };
	char *save = NULL;

	for (char *p = strtok_r(line, " \t\n", &save); p; p = strtok_r(NULL, " \t\n", &save)) {
		assert_true(w.n < WORDS_MAX);
		w.word[w.n++] = p;
	}
	for (size_t i = 0; w.n && i < ARRAY_SIZE(commands); i++) {
		if (strcmp(w.word[0], commands[i].name))
			continue;
		assert_true(w.n >= commands[i].words);
		commands[i].fn(s, &w);
		if (!s->in_txn)
			mvcc_check(s->rig.store);
		run_temper(s);
		return;
	}
	fail_msg("%s: there is no such command", w.n ? w.word[0] : "an empty line");
}

enum part { COMMANDS, EXPECTED };

/* Reads @in, runs its commands; to @out goes the script with what was printed. */
static void run_lines(struct script *s, FILE *in, FILE *out)
{
	enum part part = COMMANDS;
	char *line = NULL;
	size_t cap = 0;

	while (getline(&line, &cap, in) > 0) {
		if (part == EXPECTED) {
			if (line[0] != '\n')
				continue;
			part = COMMANDS;
		}
		fputs(line, out);
		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (strcmp(line, "----\n")) {
			run_command(s, line);
			continue;
		}
		fwrite(s->out, 1, s->len, out);
		s->len = 0;
		part = EXPECTED;
	}
	free(line);
	assert_int_equal(s->len, 0);
}

static char *read_all(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = NULL;
	size_t cap = 0;

	assert_non_null(f);
	assert_true(getdelim(&text, &cap, '\0', f) > 0);
	fclose(f);
	return text;
}

/* The first line in which the two differ. */
static void compare(const char *path, const char *how, const char *want, const char *got)
{
	size_t line = 1, start = 0, i = 0;

	for (; want[i] && want[i] == got[i]; i++) {
		if (want[i] != '\n')
			continue;
		line++;
		start = i + 1;
	}
	if (want[i] != got[i])
		fail_msg("%s:%zu (%s)\n  want: %.*s\n  got:  %.*s", path, line, how,
			 (int)strcspn(want + start, "\n"), want + start,
			 (int)strcspn(got + start, "\n"), got + start);
}

static void run_script(const char *path, bool bdb, enum temper temper, bool rewrite)
{
	const struct mvcc_args args = {
		.cache_bytes = temper == PLAIN ? 0 : 1,
		.ring_events = temper == PLAIN ? 0 : 1,
	};
	struct script *s = calloc(1, sizeof(*s));
	char *want = read_all(path), *got = NULL, how[64];
	struct mvcc_backend_size size;
	FILE *in = fmemopen(want, strlen(want), "r"), *out;
	size_t len;

	out = open_memstream(&got, &len);
	assert_true(s && in && out);
	s->temper = temper;
	rig_open(&s->rig, bdb, &args);
	run_lines(s, in, out);
	assert_int_equal(mvcc_backend_size(s->rig.backend, &size), 0);
	assert_true(size.in_use >= 0 && size.total >= size.in_use);
	mvcc_unwatch(s->rig.store, NULL);
	rig_close(&s->rig);
	fclose(in);
	fclose(out);
	snprintf(how, sizeof(how), "%s, %s", bdb ? "Berkeley DB" : "memory", temper_names[temper]);
	if (rewrite) {
		out = fopen(path, "w");
		assert_non_null(out);
		fputs(got, out);
		fclose(out);
	} else {
		compare(path, how, want, got);
	}
	free(got);
	free(want);
	free(s);
}

static void run(const char *name)
{
	bool rewrite = getenv("KVD_REWRITE");
	char path[128];

	snprintf(path, sizeof(path), "tests/data/mvcc/%s.txt", name);
	if (rewrite)
		run_script(path, false, PLAIN, true);
	for (int t = 0; t < N_TEMPERS; t++) {
		run_script(path, false, (enum temper)t, false);
		run_script(path, true, (enum temper)t, false);
	}
}

#define SCRIPT(name) static void name(void **state) { run(#name); }

SCRIPT(revisions)
SCRIPT(transactions)
SCRIPT(keys)
SCRIPT(leases)
SCRIPT(ranges)
SCRIPT(sorting)
SCRIPT(history)
SCRIPT(stream)
SCRIPT(compaction)
SCRIPT(hash)
SCRIPT(watching)
SCRIPT(watching_history)
SCRIPT(watch_guarantees)
SCRIPT(watch_compaction)
SCRIPT(records)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(revisions),
		cmocka_unit_test(transactions),
		cmocka_unit_test(keys),
		cmocka_unit_test(leases),
		cmocka_unit_test(ranges),
		cmocka_unit_test(sorting),
		cmocka_unit_test(history),
		cmocka_unit_test(stream),
		cmocka_unit_test(compaction),
		cmocka_unit_test(hash),
		cmocka_unit_test(watching),
		cmocka_unit_test(watching_history),
		cmocka_unit_test(watch_guarantees),
		cmocka_unit_test(watch_compaction),
		cmocka_unit_test(records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
