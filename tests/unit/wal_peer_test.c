/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvd/wal and etcd's own write-ahead log read each other. What etcd 3.7.1 wrote once
 * is in tests/data/wal; the rest runs etcd and its wal package (tests/peer/waldump),
 * and is skipped where "make peer" has not made them. Directory of both: KVD_PEER,
 * else $O/peer, else build/peer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kvd/wal.h"

#define DEADLINE_SECONDS 60

static char top[64], dir[128], peer[200];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int setup(void **state)
{
	const char *given = getenv("KVD_PEER"), *o = getenv("O");

	if (given)
		snprintf(peer, sizeof(peer), "%s", given);
	else
		snprintf(peer, sizeof(peer), "%s/peer", o ? o : "build");
	snprintf(top, sizeof(top), "/tmp/kvd-wal-test-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	snprintf(dir, sizeof(dir), "%s/wal", top);
	return 0;
}

static int teardown(void **state)
{
	return nftw(top, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Skips the test where the program is not there. */
static void need(const char *program)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", peer, program);
	if (access(path, X_OK) == 0)
		return;
	print_message("skipped: there is no %s; \"make peer\" builds it (needs Go)\n", path);
	skip();
}

static char *read_file(const char *path)
{
	char *text = NULL;
	size_t size = 0;
	FILE *in = fopen(path, "re");

	assert_non_null(in);
	if (getdelim(&text, &size, EOF, in) < 0) {
		free(text);
		text = strdup("");
	}
	fclose(in);
	assert_non_null(text);
	return text;
}

/* Starts a program of the peers, its output going to @log in the test's directory. */
static pid_t start(const char *log, const char *const argv[])
{
	char program[256], path[128];
	pid_t pid;
	int fd;

	snprintf(program, sizeof(program), "%s/%s", peer, argv[0]);
	snprintf(path, sizeof(path), "%s/%s", top, log);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (dup2(fd, STDOUT_FILENO) >= 0 && dup2(fd, STDERR_FILENO) >= 0)
			execv(program, (char *const *)argv);
		_exit(127);
	}
	close(fd);
	return pid;
}

/* Runs one to its end; true where it succeeds. */
static bool run(const char *const argv[])
{
	pid_t pid = start("output", argv);
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status == 0;
}

/* What waldump prints of the log after @index, appending @more where that is given. */
static char *waldump(const char *index, const char *term, const char *more)
{
	const char *argv[] = {
		"waldump", "-index", index, "-term", term, "-append",
		more, dir, NULL,
	};
	char path[128];
	bool good = run(argv);
	char *text;

	snprintf(path, sizeof(path), "%s/output", top);
	text = read_file(path);
	if (!good)
		fail_msg("waldump: %s", text);
	return text;
}

/* --- the log as text, as waldump prints it -------------------------------------- */

static void print_hex(struct slice s, FILE *out)
{
	for (size_t i = 0; i < s.len; i++)
		fprintf(out, "%02x", s.data[i]);
	fputc('\n', out);
}

/* Opens the log and prints what follows @start; leaves it open where @wal is given. */
static char *dump(uint64_t start, struct wal **wal_out)
{
	struct wal_args args = { .dir = dir };
	struct wal_contents c;
	char why[512], *text = NULL;
	size_t size = 0;
	struct wal *wal;
	FILE *out;

	if (wal_open(&args, start, &c, &wal, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	out = open_memstream(&text, &size);
	assert_non_null(out);
	fputs("metadata ", out);
	print_hex(blob_slice(c.metadata), out);
	fprintf(out, "state %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", c.hard_state.term,
		c.hard_state.vote, c.hard_state.commit);
	for (size_t i = 0; i < c.n_entries; i++) {
		const struct raft_entry *e = &c.entries[i];

		fprintf(out, "entry %d %" PRIu64 " %" PRIu64 " ", e->type, e->term, e->index);
		print_hex(e->payload ? blob_slice(e->payload) : slice_of(NULL, 0), out);
	}
	assert_int_equal(fclose(out), 0);
	assert_int_equal(c.torn_bytes, 0);
	wal_contents_release(&c);
	if (wal_out)
		*wal_out = wal;
	else
		wal_close(wal);
	return text;
}

static void append(struct wal *wal, uint64_t term, uint64_t index, size_t len)
{
	const struct raft_hard_state hs = { .term = term, .vote = UINT64_MAX, .commit = index - 1 };
	struct raft_entry e = { .term = term, .index = index, .payload = blob_new(len) };

	assert_non_null(e.payload);
	memset(e.payload->data, (int)index, len);
	assert_int_equal(wal_append(wal, &e, 1, &hs), 0);
	assert_int_equal(wal_sync(wal), 0);
	blob_put(e.payload);
}

/* --- tests ---------------------------------------------------------------------- */

#define RECORDED "tests/data/wal/etcd-3.7.1"
#define SEGMENT "0000000000000000-0000000000000000.wal"

static void copy_recorded(void)
{
	uint8_t bytes[4096];
	char path[200];
	ssize_t n;
	int fd;

	fd = open(RECORDED "/" SEGMENT, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	n = read(fd, bytes, sizeof(bytes));
	assert_true(n > 0);
	close(fd);
	assert_int_equal(mkdir(dir, 0700), 0);
	snprintf(path, sizeof(path), "%s/" SEGMENT, dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, (size_t)n), n);
	assert_int_equal(close(fd), 0);
}

static void test_recorded(void **state)
{
	char *want, *got;
	struct wal *wal;

	copy_recorded();
	want = read_file(RECORDED ".txt");
	got = dump(0, &wal);
	assert_string_equal(got, want);
	append(wal, 2, 7, 100);
	wal_close(wal);
	free(got);
	got = dump(0, NULL);
	assert_memory_equal(got, want, strlen("metadata "));
	assert_non_null(strstr(got, "\nentry 0 2 6 "));
	assert_non_null(strstr(got, "\nentry 0 2 7 0707"));
	free(want);
	free(got);
}

/* Several segments, a snapshot record, a replaced tail, and marks. */
static void test_etcd_reads_ours(void **state)
{
	uint64_t voters[] = { 7, UINT64_MAX };
	const struct raft_snapshot_meta meta = {
		.index = 150, .term = 2, .conf = { .voters = voters, .n_voters = 2 },
	};
	struct wal_args args = { .dir = dir, .segment_bytes = 8192 };
	char why[512], *want, *got;
	struct wal *wal;

	need("waldump");
	assert_int_equal(wal_create(&args, SLICE_LIT("\x08\x07\x10\x09"), &wal, why,
				    sizeof(why)), 0);
	for (uint64_t i = 1; i <= 200; i++)
		append(wal, 1 + i / 100, i, 1 + i * 7 % 500);
	assert_int_equal(wal_snapshot(wal, &meta), 0);
	append(wal, 3, 200, 2000000);
	append(wal, 3, 201, 1);
	wal_close(wal);
	want = dump(0, NULL);
	got = waldump("0", "0", "");
	assert_string_equal(got, want);
	free(want);
	free(got);
	want = dump(150, NULL);
	got = waldump("150", "2", "more");
	assert_string_equal(got, want);
	free(want);
	free(got);
	/* and what etcd put after it */
	got = dump(150, &wal);
	assert_non_null(strstr(got, "\nentry 0 3 202 6d6f7265\n"));
	free(got);
	/* after the old segments are gone etcd still finds the snapshot's record */
	assert_int_equal(wal_release(wal, 150), 0);
	append(wal, 4, 203, 5);
	wal_close(wal);
	want = dump(150, NULL);
	got = waldump("150", "2", "");
	assert_string_equal(got, want);
	free(want);
	free(got);
}

static unsigned free_port(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	close(fd);
	return ntohs(addr.sin_port);
}

static pid_t start_etcd(unsigned port, unsigned peer_port)
{
	char data[128], client[64], url[64], cluster[80];
	const char *argv[] = {
		"etcd", "--data-dir", data, "--listen-client-urls", client,
		"--advertise-client-urls", client, "--listen-peer-urls", url,
		"--initial-advertise-peer-urls", url, "--initial-cluster", cluster, NULL,
	};

	snprintf(data, sizeof(data), "%s/etcd", top);
	snprintf(client, sizeof(client), "http://127.0.0.1:%u", port);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", peer_port);
	snprintf(cluster, sizeof(cluster), "default=%s", url);
	return start("log", argv);
}

static void stop_etcd(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* Puts a key, again and again until the server is there. */
static void put(unsigned port, const char *key)
{
	time_t end = time(NULL) + DEADLINE_SECONDS;
	char endpoint[64];
	const char *argv[] = { "etcdctl", "--endpoints", endpoint, "put", key, "value", NULL };

	snprintf(endpoint, sizeof(endpoint), "127.0.0.1:%u", port);
	while (!run(argv))
		if (time(NULL) > end)
			fail_msg("etcd does not answer at %s", endpoint);
}

/* Adds an empty entry after the last one, as a leader does when it begins. */
static void append_empty(void)
{
	struct wal_args args = { .dir = dir };
	struct raft_entry e = { 0 };
	struct wal_contents c;
	struct wal *wal;
	char why[512];

	if (wal_open(&args, 0, &c, &wal, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	e.term = c.hard_state.term;
	e.index = c.entries[c.n_entries - 1].index + 1;
	assert_int_equal(wal_append(wal, &e, 1, &c.hard_state), 0);
	assert_int_equal(wal_sync(wal), 0);
	wal_contents_release(&c);
	wal_close(wal);
}

/* etcd is killed in the middle of its work; kvd goes on with its log, then etcd again. */
static void test_etcd_and_kvd_take_turns(void **state)
{
	unsigned port = free_port(), peer_port = free_port();
	char *want, *got;
	pid_t pid;

	need("waldump");
	need("etcd");
	need("etcdctl");
	pid = start_etcd(port, peer_port);
	put(port, "one");
	put(port, "two");
	stop_etcd(pid);
	snprintf(dir, sizeof(dir), "%s/etcd/member/wal", top);
	got = dump(0, NULL);
	want = waldump("0", "0", "");
	assert_string_equal(got, want);
	assert_non_null(strstr(got, "\nentry 0 2 6 "));
	append_empty();
	free(got);
	free(want);
	pid = start_etcd(port, peer_port);
	put(port, "three");
	stop_etcd(pid);
	got = dump(5, NULL);
	assert_non_null(strstr(got, "0a057468726565"));		/* the key of a put: three */
	free(got);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_recorded),
		TEST(test_etcd_reads_ours),
		TEST(test_etcd_and_kvd_take_turns),
	};

	return cmocka_run_group_tests_name("wal and etcd", tests, NULL, NULL);
}
