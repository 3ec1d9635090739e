// SPDX-License-Identifier: Apache-2.0
/*
 * The simulator, see sim.h:
 *
 *	raft_sim [--seeds N] [--first S] [--nodes K] [--trace] [--plant BUG]
 *	raft_sim --links
 *
 * Runs seeds S .. S + N - 1 on groups of K members (else of 1 to 7) and ends with "N
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

static const char *const class_names[SIM_CLASSES] = {
	"messages lost", "messages duplicated", "messages reordered", "messages very late",
	"links cut one way", "subsets of links", "splits", "members cut off", "bridges", "rings",
	"crashes", "crashes of all", "writes lost", "writes torn", "disk errors",
	"commit indexes lost", "applied entries lost", "slow writes", "disk stalls", "pauses",
	"clocks off", "clocks that leap", "clocks that stop", "single changes",
	"joint configurations, automatic", "joint configurations, implicit",
	"joint configurations, explicit", "joint configurations left", "learners added",
	"learners promoted", "voters demoted", "voters removed", "transfers",
	"transfers under way", "leaders forgotten", "campaigns", "compactions", "snapshots",
	"snapshots lost", "snapshots installed", "reads", "reads answered", "reads answered under a lease", "elections",
	"entries committed", "calms of a quorum", "calms of all", "minorities lost in the calm",
	"transfers in the calm",
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
	sim_fail(&sim, "an assertion of libraft fails");
}

static void run_seed(struct sim *s, uint64_t seed)
{
	sim_begin(s, seed);
	chaos_profile(s, options.nodes);
	chaos_begin(s);
	sim_run_until(s, STRIKING * SIM_TICK);
	calm_run(s);
	sim_end(s);
}

/* How many classes of events never happened. */
static size_t report_classes(const struct sim *s)
{
	size_t missing = 0;

	for (size_t i = 0; i < SIM_CLASSES; i++) {
		printf("%10llu %s\n", (unsigned long long)s->count[i], class_names[i]);
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
		fprintf(stderr, "raft_sim: not a number: %s\n", text ? text : "");
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
	if (options.nodes > 7) {
		fprintf(stderr, "usage: raft_sim [--seeds N] [--first S] [--nodes 1..7] [--trace]"
			" [--plant BUG] [--links]\n");
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
	fprintf(stderr, "raft_sim: no %s: run tests/sim/planted.sh\n", path);
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
		return links_run(&sim) != 0;
	sim.tracing = options.trace || options.tail;
	for (uint64_t seed = options.first; seed < options.first + options.seeds; seed++) {
		run_seed(&sim, seed);
		hash = (hash ^ sim.hash) * 0x9e3779b97f4a7c15;
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
