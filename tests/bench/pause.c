// SPDX-License-Identifier: Apache-2.0
/*
 * How long a put can take while a server frees history and gives space back.
 *
 *	pause URL [REVISIONS [RATE [SECONDS [DIR]]]]
 *
 * Fills the server with that many revisions of 100,000 keys; then puts at a steady rate,
 * alone, beside hashes, beside a compaction of all those revisions, and beside a
 * defragmentation. A line for each: the rate that was reached, and how long puts took,
 * from when each was due until its answer, so that one that holds up those behind it
 * counts for all of them. "late" is by how much this program was late itself.
 *
 * "longest*" and ">10 ms*" are of those puts in whose time no processor of the machine
 * stood still for a millisecond or more, and "machine" is by how much a thread before
 * which no other comes was woken too late: see witness.h. It takes root.
 *
 * The first line is of DIR's disk, asked by nobody else: appends of 4 KiB, each synced.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "include/bug.h"
#include "lib/client.h"
#include "tests/bench/witness.h"

#define CLIENTS 8
#define KEYS 100000
#define TXN_OPS 100
#define FILL_DEPTH 16			/* transactions under way */
#define VALUE_BYTES 256
#define SECOND UINT64_C(1000000000)
#define CALL_MS 600000
#define LONG_US 10000

static uint8_t value[VALUE_BYTES];
static bool witnessed;

static void die(const char *what, const char *why)
{
	fprintf(stderr, "pause: %s: %s\n", what, why);
	exit(1);
}

/* --- how long things took ------------------------------------------------- */

struct took {
	uint64_t from;			/* of uv_hrtime() */
	uint32_t us;
};

struct times {
	struct took *each;
	size_t n, cap;
};

static void times_add(struct times *t, uint64_t from)
{
	if (t->n == t->cap) {
		t->cap = t->cap ? 2 * t->cap : 1 << 16;
		t->each = realloc(t->each, t->cap * sizeof(*t->each));
		BUG_ON(!t->each);
	}
	t->each[t->n++] = (struct took){ from, (uint32_t)MIN((uv_hrtime() - from) / 1000,
							     (uint64_t)UINT32_MAX) };
}

static int compare(const void *a, const void *b)
{
	const struct took *x = a, *y = b;

	return x->us < y->us ? -1 : x->us > y->us;
}

static double at(const struct times *t, double part)
{
	return (double)t->each[(size_t)((double)(t->n - 1) * part)].us / 1000;
}

static void print_head(void)
{
	printf("%-20s %7s %6s %6s %6s %6s %7s %7s %6s %6s", "milliseconds", "seconds", "rate",
	       "median", "99 %", "99.9 %", "99.99 %", "longest", ">10 ms", "late");
	if (witnessed)
		printf(" %8s %7s %7s", "longest*", ">10 ms*", "machine");
	printf("\n");
}

/* @t is in order: what is left of it without the times in which the machine stood still. */
static void print_undisturbed(const struct times *t)
{
	size_t i = t->n, over = 0;
	uint32_t longest = 0;

	while (i && (!longest || t->each[i - 1].us > LONG_US)) {
		const struct took *took = &t->each[--i];

		if (witness_late(took->from, took->from + took->us * UINT64_C(1000)))
			continue;
		longest = MAX(longest, took->us);
		over += took->us > LONG_US;
	}
	printf(" %8.2f %7zu %7.1f", (double)longest / 1000, over,
	       (double)witness_latest() / 1e6);
}

static void print_line(const char *title, uint64_t ns, struct times *t, uint64_t late)
{
	size_t over = 0;

	if (!t->n)
		die(title, "nothing was done");
	qsort(t->each, t->n, sizeof(*t->each), compare);
	while (over < t->n && t->each[t->n - 1 - over].us > LONG_US)
		over++;
	printf("%-20s %7.1f %6.0f %6.2f %6.2f %6.2f %7.2f %7.2f %6zu %6.1f", title,
	       (double)ns / 1e9, (double)t->n * 1e9 / (double)ns, at(t, 0.5), at(t, 0.99),
	       at(t, 0.999), at(t, 0.9999), at(t, 1), over, (double)late / 1e6);
	if (witnessed)
		print_undisturbed(t);
	printf("\n");
	fflush(stdout);
	t->n = 0;
}

/* --- the disk alone ------------------------------------------------------- */

static void measure_disk(const char *dir, uint64_t seconds)
{
	uint64_t began = uv_hrtime(), from, now = began;
	struct times t = { 0 };
	uint8_t page[4096];
	char path[4096];
	int fd;

	memset(page, 'x', sizeof(page));
	snprintf(path, sizeof(path), "%s/pause.XXXXXX", dir);
	fd = mkstemp(path);
	if (fd < 0)
		die(path, strerror(errno));
	unlink(path);
	while (now < began + seconds * SECOND) {
		from = now;
		if (write(fd, page, sizeof(page)) != sizeof(page) || fdatasync(fd))
			die(path, strerror(errno));
		times_add(&t, from);
		now = uv_hrtime();
	}
	print_line("fdatasync, alone", now - began, &t, 0);
	close(fd);
	free(t.each);
}

/* --- the load -------------------------------------------------------------- */

struct load {
	uv_loop_t *loop;
	uv_timer_t timer;
	struct client *clients[CLIENTS];
	uint64_t rate, seconds;

	/* the fill */
	int64_t revision;
	size_t filled, fill_wanted;

	/* a phase */
	uint64_t began, sent, done, failed, late;
	struct times times;
	bool running, beside_done;
	/* done again and again, or once, beside the puts */
	void (*beside)(struct load *load);
	bool again;
};

struct put {
	struct load *load;
	uint64_t due;
};

static void check(const char *what, const struct client_result *result)
{
	if (result->code != GRPC_OK)
		die(what, result->text);
}

static void put_done(void *user, const struct client_result *result)
{
	struct put *put = user;
	struct load *load = put->load;

	if (result->code == GRPC_OK)
		load->revision = ((const Etcdserverpb__PutResponse *)result->response)->
			header->revision;
	else
		load->failed++;
	times_add(&load->times, put->due);
	load->done++;
	free(put);
	if (!load->running && load->done == load->sent)
		uv_stop(load->loop);
}

static void send_put(struct load *load, uint64_t due)
{
	Etcdserverpb__PutRequest r = ETCDSERVERPB__PUT_REQUEST__INIT;
	struct put *put = malloc(sizeof(*put));
	char key[32];

	BUG_ON(!put);
	*put = (struct put){ load, due };
	snprintf(key, sizeof(key), "/put/%026d", (int)(load->sent % 10000));
	r.key = (ProtobufCBinaryData){ strlen(key), (uint8_t *)key };
	r.value = (ProtobufCBinaryData){ sizeof(value), value };
	if (client_call(load->clients[load->sent % CLIENTS], &client_kv_put, &r.base, CALL_MS,
			put_done, put, NULL))
		die("put", "too many under way");
	load->sent++;
}

static void on_timer(uv_timer_t *timer)
{
	struct load *load = timer->data;
	uint64_t now = uv_hrtime(), due;

	if (now > load->began + load->seconds * SECOND && (load->beside_done || load->again))
		load->running = false;
	while (load->running) {
		due = load->began + load->sent * SECOND / load->rate;
		if (due > now)
			return;
		load->late = MAX(load->late, now - due);
		send_put(load, due);
	}
	uv_timer_stop(timer);
	if (load->done == load->sent)
		uv_stop(load->loop);
}

static void run_phase(struct load *load, const char *title, void (*beside)(struct load *load),
		      bool again)
{
	uint64_t took;

	load->sent = load->done = load->failed = load->late = 0;
	load->running = true;
	load->beside = beside;
	load->beside_done = !beside;
	load->again = again;
	load->began = uv_hrtime();
	uv_timer_start(&load->timer, on_timer, 1, 1);
	if (beside)
		beside(load);
	uv_run(load->loop, UV_RUN_DEFAULT);
	took = uv_hrtime() - load->began;
	/* what is done again and again is still under way once */
	while (!load->beside_done)
		uv_run(load->loop, UV_RUN_ONCE);
	print_line(title, took, &load->times, load->late);
	if (load->failed)
		printf("%24llu of them were refused\n", (unsigned long long)load->failed);
}

/* --- beside it ------------------------------------------------------------- */

static void beside_done(void *user, const struct client_result *result)
{
	struct load *load = user;

	check("beside the puts", result);
	if (load->again && load->running)
		load->beside(load);
	else
		load->beside_done = true;
}

static void call_beside(struct load *load, const struct client_method *method,
			const ProtobufCMessage *request)
{
	load->beside_done = false;
	if (client_call(load->clients[0], method, request, CALL_MS, beside_done, load, NULL))
		die(method->path, "too many under way");
}

static void hash(struct load *load)
{
	Etcdserverpb__HashKVRequest r = ETCDSERVERPB__HASH_KVREQUEST__INIT;

	call_beside(load, &client_maintenance_hash_kv, &r.base);
}

static void compact(struct load *load)
{
	Etcdserverpb__CompactionRequest r = ETCDSERVERPB__COMPACTION_REQUEST__INIT;

	r.revision = load->revision;
	r.physical = true;
	call_beside(load, &client_kv_compact, &r.base);
}

static void defragment(struct load *load)
{
	Etcdserverpb__DefragmentRequest r = ETCDSERVERPB__DEFRAGMENT_REQUEST__INIT;

	call_beside(load, &client_maintenance_defragment, &r.base);
}

/* --- what there is to be freed --------------------------------------------- */

static void fill_txn(struct load *load);

static void filled(void *user, const struct client_result *result)
{
	struct load *load = user;

	check("fill", result);
	load->done++;
	if (load->filled < load->fill_wanted)
		fill_txn(load);
	else if (load->done == load->sent)
		uv_stop(load->loop);
}

static void fill_txn(struct load *load)
{
	Etcdserverpb__TxnRequest txn = ETCDSERVERPB__TXN_REQUEST__INIT;
	Etcdserverpb__RequestOp ops[TXN_OPS], *pointers[TXN_OPS];
	Etcdserverpb__PutRequest puts[TXN_OPS];
	char keys[TXN_OPS][33];

	for (size_t i = 0; i < TXN_OPS; i++) {
		snprintf(keys[i], sizeof(keys[i]), "/fill/%026d",
			 (int)((load->filled + i) * 73687 % KEYS));
		puts[i] = (Etcdserverpb__PutRequest)ETCDSERVERPB__PUT_REQUEST__INIT;
		puts[i].key = (ProtobufCBinaryData){ 32, (uint8_t *)keys[i] };
		puts[i].value = (ProtobufCBinaryData){ sizeof(value), value };
		ops[i] = (Etcdserverpb__RequestOp)ETCDSERVERPB__REQUEST_OP__INIT;
		ops[i].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
		ops[i].request_put = &puts[i];
		pointers[i] = &ops[i];
	}
	txn.success = pointers;
	txn.n_success = TXN_OPS;
	if (client_call(load->clients[load->sent % CLIENTS], &client_kv_txn, &txn.base, CALL_MS,
			filled, load, NULL))
		die("fill", "too many under way");
	load->sent++;
	load->filled += TXN_OPS;
}

static void fill(struct load *load, size_t revisions)
{
	uint64_t began = uv_hrtime();

	load->fill_wanted = revisions;
	for (size_t i = 0; i < FILL_DEPTH && load->filled < revisions; i++)
		fill_txn(load);
	uv_run(load->loop, UV_RUN_DEFAULT);
	printf("%zu revisions of %d keys in %.1f s\n", load->filled, KEYS,
	       (double)(uv_hrtime() - began) / 1e9);
	fflush(stdout);
}

static uint64_t number(int argc, char **argv, int i, uint64_t otherwise)
{
	return argc > i ? strtoull(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
	struct client_config config = { .endpoints = (const char *const *)&argv[1],
					.n_endpoints = 1, .timeout_ms = CALL_MS,
					.probe_ms = CALL_MS };
	struct load load = { .rate = number(argc, argv, 3, 20000),
			     .seconds = number(argc, argv, 4, 10) };
	char why[256];

	if (argc < 2)
		die("usage", "pause URL [REVISIONS [RATE [SECONDS [DIR]]]]");
	memset(value, 'v', sizeof(value));
	load.loop = config.loop = uv_default_loop();
	uv_timer_init(load.loop, &load.timer);
	load.timer.data = &load;
	for (size_t i = 0; i < CLIENTS; i++)
		if (client_new(&config, &load.clients[i], why, sizeof(why)))
			die(argv[1], why);
	fill(&load, number(argc, argv, 2, 5000000));
	witnessed = witness_start();
	print_head();
	measure_disk(argc > 5 ? argv[5] : ".", load.seconds / 2 + 1);
	run_phase(&load, "puts", NULL, false);
	run_phase(&load, "beside HashKV", hash, true);
	run_phase(&load, "beside a compaction", compact, false);
	run_phase(&load, "beside Defragment", defragment, false);
	run_phase(&load, "afterwards", NULL, false);
	return 0;
}
