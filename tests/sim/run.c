// SPDX-License-Identifier: Apache-2.0
/*
 * What all simulators have in common, see sim.h:
 *
 *	raft_sim [--seeds N] [--first S] [--nodes K] [--trace] [--plant BUG]
 *	raft_sim --links
 *	kvd_sim [--seeds N] [--first S] [--nodes K] [--trace]
 *
 * Runs seeds S .. S + N - 1 on groups of K members (else of any number) and ends with "N
 * passed, N failed"; the first seed that fails is run again for its last steps. --trace
 * prints every step. --plant runs the program with that bug in its libraft, which
 * tests/sim/planted.sh builds. --links runs all subsets of three members' links instead.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/sim.h"

#define TAIL 60			/* lines of a trace that are shown */
#define STRIKING 600		/* ticks under faults */
#define MANY 100		/* seeds that must see every class of faults */
#define TICKS_PER_HOUR 36000	/* of etcd's 100 ms */

static const struct {
	unsigned int parts;
	const char *name;
} classes[SIM_CLASSES] = {
	[SIM_LOSS] = { SIM_RAFT | SIM_KVD, "messages lost" },
	[SIM_DUPLICATE] = { SIM_RAFT | SIM_KVD, "messages duplicated" },
	[SIM_REORDER] = { SIM_RAFT | SIM_KVD, "messages reordered" },
	[SIM_LATE] = { SIM_RAFT | SIM_KVD, "messages very late" },
	[SIM_ONE_WAY] = { SIM_RAFT | SIM_KVD, "links cut one way" },
	[SIM_LINKS] = { SIM_RAFT | SIM_KVD, "subsets of links" },
	[SIM_SPLIT] = { SIM_RAFT | SIM_KVD, "splits" },
	[SIM_ISOLATE] = { SIM_RAFT | SIM_KVD, "members cut off" },
	[SIM_BRIDGE] = { SIM_RAFT | SIM_KVD, "bridges" },
	[SIM_RING] = { SIM_RAFT | SIM_KVD, "rings" },
	[SIM_CRASH] = { SIM_RAFT | SIM_KVD, "crashes" },
	[SIM_CRASH_ALL] = { SIM_RAFT | SIM_KVD, "crashes of all" },
	[SIM_LOST_WRITE] = { SIM_RAFT | SIM_KVD, "writes lost" },
	[SIM_TORN_WRITE] = { SIM_RAFT | SIM_KVD, "writes torn" },
	[SIM_DISK_ERROR] = { SIM_RAFT | SIM_KVD, "disk errors" },
	[SIM_LOST_COMMIT] = { SIM_RAFT | SIM_KVD, "commit indexes lost" },
	[SIM_LOST_APPLY] = { SIM_RAFT, "applied entries lost" },
	[SIM_SLOW_DISK] = { SIM_RAFT | SIM_KVD, "slow writes" },
	[SIM_STALL] = { SIM_RAFT | SIM_KVD, "disk stalls" },
	[SIM_PAUSE] = { SIM_RAFT | SIM_KVD, "pauses" },
	[SIM_DRIFT] = { SIM_RAFT | SIM_KVD, "clocks off" },
	[SIM_CLOCK_LEAP] = { SIM_RAFT | SIM_KVD, "clocks that leap" },
	[SIM_CLOCK_STOP] = { SIM_RAFT | SIM_KVD, "clocks that stop" },
	[SIM_SINGLE_CHANGE] = { SIM_RAFT, "single changes" },
	[SIM_JOINT_AUTO] = { SIM_RAFT, "joint configurations, automatic" },
	[SIM_JOINT_IMPLICIT] = { SIM_RAFT, "joint configurations, implicit" },
	[SIM_JOINT_EXPLICIT] = { SIM_RAFT, "joint configurations, explicit" },
	[SIM_JOINT_LEFT] = { SIM_RAFT, "joint configurations left" },
	[SIM_LEARNER] = { SIM_RAFT, "learners added" },
	[SIM_PROMOTED] = { SIM_RAFT, "learners promoted" },
	[SIM_DEMOTED] = { SIM_RAFT, "voters demoted" },
	[SIM_REMOVED] = { SIM_RAFT, "voters removed" },
	[SIM_TRANSFER] = { SIM_RAFT | SIM_KVD, "transfers" },
	[SIM_TRANSFERRED] = { SIM_RAFT | SIM_KVD, "transfers under way" },
	[SIM_FORGET_LEADER] = { SIM_RAFT | SIM_KVD, "leaders forgotten" },
	[SIM_CAMPAIGN] = { SIM_RAFT | SIM_KVD, "campaigns" },
	[SIM_COMPACT] = { SIM_RAFT, "compactions" },
	[SIM_SNAPSHOT] = { SIM_RAFT, "snapshots" },
	[SIM_SNAPSHOT_LOST] = { SIM_RAFT, "snapshots lost" },
	[SIM_INSTALLED] = { SIM_RAFT, "snapshots installed" },
	[SIM_READ] = { SIM_RAFT | SIM_KVD, "reads" },
	[SIM_READ_ANSWERED] = { SIM_RAFT, "reads answered" },
	[SIM_READ_LEASED] = { SIM_RAFT, "reads answered under a lease" },
	[SIM_ELECTION] = { SIM_RAFT | SIM_KVD, "elections" },
	[SIM_COMMIT] = { SIM_RAFT | SIM_KVD, "entries committed" },
	[SIM_QUORUM_CALM] = { SIM_RAFT | SIM_KVD, "calms of a quorum" },
	[SIM_ALL_CALM] = { SIM_RAFT | SIM_KVD, "calms of all" },
	[SIM_LATER_LOSS] = { SIM_RAFT | SIM_KVD, "minorities lost in the calm" },
	[SIM_TRANSFER_CALM] = { SIM_RAFT | SIM_KVD, "transfers in the calm" },
	[SIM_KV_WRITE] = { SIM_KVD, "changes answered" },
	[SIM_KV_READ] = { SIM_KVD, "reads of kvd answered" },
	[SIM_KV_REFUSED] = { SIM_KVD, "requests refused" },
	[SIM_KV_UNKNOWN] = { SIM_KVD, "requests without an answer" },
	[SIM_KV_COMPACT] = { SIM_KVD, "compactions of history" },
	[SIM_KV_EXPIRED] = { SIM_KVD, "leases expired" },
	[SIM_KV_RENEWED] = { SIM_KVD, "leases renewed" },
	[SIM_KV_HASH] = { SIM_KVD, "hashes compared" },
	[SIM_KV_EVENT] = { SIM_KVD, "events delivered" },
	[SIM_KV_RESUMED] = { SIM_KVD, "watches resumed" },
	[SIM_KV_LAG] = { SIM_KVD, "watches that read history" },
	[SIM_KV_CUT] = { SIM_KVD, "watches cut off by a compaction" },
	[SIM_KV_FETCH] = { SIM_KVD, "values fetched" },
	[SIM_KV_SYNC] = { SIM_KVD, "syncs of the store" },
	[SIM_KV_BATCH_KEPT] = { SIM_KVD, "unsynced batches kept" },
	[SIM_KV_BATCH_LOST] = { SIM_KVD, "unsynced batches lost" },
	[SIM_KV_LOG_CUT] = { SIM_KVD, "logs cut" },
};

static struct {
	uint64_t seeds, first, nodes, from;
	bool trace, tail, links;
	const char *plant, *self;
} options = { .seeds = 100, .first = 1 };

static struct sim sim;
static char tail[TAIL][500];
static size_t n_tail;

void sim_trace(struct sim *s, const char *format, ...)
{
	char *line = tail[n_tail % TAIL];
	va_list args;
	int n;

	if (!s->tracing)
		return;
	n = snprintf(line, sizeof(tail[0]), "%8llu  ", (unsigned long long)s->now);
	va_start(args, format);
	vsnprintf(line + n, sizeof(tail[0]) - (size_t)n, format, args);
	va_end(args);
	n_tail++;
	if (options.trace)
		puts(line);
}

static void print_tail(void)
{
	for (size_t i = n_tail > TAIL ? n_tail - TAIL : 0; i < n_tail; i++)
		puts(tail[i % TAIL]);
}

/* Runs the seed once more, now with a trace. */
static void run_again(const struct sim *s)
{
	char first[32], nodes[32], from[32];
	char *args[] = {
		(char *)options.self, (char *)"--tail", (char *)"--seeds", (char *)"1",
		(char *)"--first", first, (char *)"--nodes", nodes, (char *)"--from", from, NULL,
	};

	snprintf(first, sizeof(first), "%llu", (unsigned long long)s->seed);
	snprintf(nodes, sizeof(nodes), "%llu", (unsigned long long)options.nodes);
	snprintf(from, sizeof(from), "%llu", (unsigned long long)options.first);
	execv("/proc/self/exe", args);
}

void sim_fail(struct sim *s, const char *format, ...)
{
	va_list args;

	if (!s->tracing && !options.links) {
		fflush(stdout);
		run_again(s);
	}
	if (!options.trace)
		print_tail();
	printf("seed %llu: ", (unsigned long long)s->seed);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\nagain: %s --first %llu --seeds 1 --nodes %llu --trace\n", options.self,
	       (unsigned long long)s->seed, (unsigned long long)options.nodes);
	printf("%llu passed, 1 failed\n", (unsigned long long)(s->seed - options.from));
	exit(1);
}

static void on_trap(int signal_number)
{
	sim_fail(&sim, "an assertion fails");
}

static void run_seed(struct sim *s, uint64_t seed)
{
	sim_begin(s, seed);
	chaos_profile(s, options.nodes);
	if (sim_program.profile)
		sim_program.profile(s);
	chaos_begin(s);
	sim_run_until(s, STRIKING * SIM_TICK);
	calm_run(s);
	if (sim_program.end)
		sim_program.end(s);
	sim_end(s);
}

/* How many classes of events never happened. */
static size_t report_classes(const struct sim *s)
{
	size_t missing = 0;

	for (size_t i = 0; i < SIM_CLASSES; i++) {
		if (!(classes[i].parts & sim_program.part))
			continue;
		printf("%10llu %s\n", (unsigned long long)s->count[i], classes[i].name);
		missing += !s->count[i];
	}
	return missing;
}

/* Simulated time over time of this process; for people only. */
static void report_speed(const struct sim *s)
{
	double hours = (double)s->simulated / SIM_TICK / TICKS_PER_HOUR;
	double minutes = (double)clock() / CLOCKS_PER_SEC / 60;

	printf("%.1f hours simulated, %.0f in a minute\n", hours, hours / minutes);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t v = strtoull(text ? text : "", &end, 10);

	if (!text || !*text || *end) {
		fprintf(stderr, "%s: not a number: %s\n", sim_program.name, text ? text : "");
		exit(2);
	}
	return v;
}

static void parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];

		if (!strcmp(name, "--trace"))
			options.trace = true;
		else if (!strcmp(name, "--tail"))
			options.tail = true;
		else if (!strcmp(name, "--links"))
			options.links = true;
		else if (!strcmp(name, "--seeds") && argv[++i])
			options.seeds = number(argv[i]);
		else if (!strcmp(name, "--first") && argv[++i])
			options.first = number(argv[i]);
		else if (!strcmp(name, "--nodes") && argv[++i])
			options.nodes = number(argv[i]);
		else if (!strcmp(name, "--from") && argv[++i])
			options.from = number(argv[i]);
		else if (!strcmp(name, "--plant") && argv[++i])
			options.plant = argv[i];
		else
			options.nodes = SIM_NODES;
	}
	if (options.nodes > sim_program.most_nodes || (options.links && !sim_program.links)) {
		fprintf(stderr, "usage: %s [--seeds N] [--first S] [--nodes 1..%d] [--trace]"
			" [--plant BUG] [--links]\n", sim_program.name,
			(int)sim_program.most_nodes);
		exit(2);
	}
	if (!options.from)
		options.from = options.first;
}

/* The same program, built with a bug: planted.sh puts it beside this one. */
static int run_planted(char **argv)
{
	const char *slash = strrchr(argv[0], '/');
	char path[4096];

	snprintf(path, sizeof(path), "%.*s/planted/%s", slash ? (int)(slash - argv[0]) : 1,
		 slash ? argv[0] : ".", options.plant);
	argv[0] = path;
	execv(path, argv);
	fprintf(stderr, "no %s: run tests/sim/planted.sh\n", path);
	return 2;
}

int main(int argc, char **argv)
{
	struct sigaction trap = { .sa_handler = on_trap, .sa_flags = SA_NODEFER };
	uint64_t hash = 0;
	size_t missing;

	options.self = argv[0];
	parse(argc, argv);
	/* The planted program gets the same arguments, under its own name. */
	if (options.plant && !strstr(argv[0], "/planted/"))
		return run_planted(argv);
	sigaction(SIGILL, &trap, NULL);
	sigaction(SIGTRAP, &trap, NULL);
	sigaction(SIGSEGV, &trap, NULL);
	if (options.links)
		return sim_program.links(&sim) != 0;
	sim.tracing = options.trace || options.tail;
	for (uint64_t seed = options.first; seed < options.first + options.seeds; seed++) {
		run_seed(&sim, seed);
		hash = (hash ^ sim.hash) * 0x9e3779b97f4a7c15;
	}
	if (options.tail) {
		printf("seed %llu fails after others, but not alone\n",
		       (unsigned long long)options.first);
		printf("%llu passed, 1 failed\n",
		       (unsigned long long)(options.first - options.from));
		return 1;
	}
	missing = report_classes(&sim);
	report_speed(&sim);
	printf("steps %llu, slowest commit after the faults %llu.%02llu ticks, hash %016llx\n",
	       (unsigned long long)sim.steps, (unsigned long long)sim.calm_worst / SIM_TICK,
	       (unsigned long long)sim.calm_worst % SIM_TICK, (unsigned long long)hash);
	if (options.seeds >= MANY && !options.nodes && missing) {
		printf("%zu classes of events never happened\n", missing);
		printf("%llu passed, 1 failed\n", (unsigned long long)options.seeds);
		return 1;
	}
	printf("%llu passed, 0 failed\n", (unsigned long long)options.seeds);
	return 0;
}
