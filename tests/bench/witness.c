// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <uv.h>

#include "include/bug.h"
#include "include/slice.h"
#include "tests/bench/witness.h"

#define PERIOD UINT64_C(500000)
#define LATE UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

struct stop {
	uint64_t from, to;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stop *stops;
static size_t n_stops, cap_stops;
static uint64_t latest;

static void note(uint64_t from, uint64_t to)
{
	pthread_mutex_lock(&lock);
	latest = MAX(latest, to - from);
	if (to - from >= LATE) {
		if (n_stops == cap_stops) {
			cap_stops = cap_stops ? 2 * cap_stops : 1024;
			stops = realloc(stops, cap_stops * sizeof(*stops));
			BUG_ON(!stops);
		}
		stops[n_stops++] = (struct stop){ from, to };
	}
	pthread_mutex_unlock(&lock);
}

static void *watch(void *unused)
{
	uint64_t due = uv_hrtime(), woken;
	struct timespec t;

	(void)unused;
	for (;;) {
		due += PERIOD;
		t = (struct timespec){ (time_t)(due / SECOND), (long)(due % SECOND) };
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		woken = uv_hrtime();
		note(due, woken);
		due = MAX(due, woken - woken % PERIOD);
	}
	return NULL;
}

static bool watch_processor(size_t cpu)
{
	struct sched_param param = { .sched_priority = 1 };
	pthread_attr_t attr;
	pthread_t thread;
	cpu_set_t set;
	int err;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_attr_init(&attr);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
	pthread_attr_setschedparam(&attr, &param);
	pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	err = pthread_create(&thread, &attr, watch, NULL);
	pthread_attr_destroy(&attr);
	return !err && !pthread_detach(thread);
}

bool witness_start(void)
{
	cpu_set_t all;

	if (sched_getaffinity(0, sizeof(all), &all))
		return false;
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && !watch_processor(cpu))
			return false;
	return true;
}

bool witness_late(uint64_t from, uint64_t to)
{
	bool late = false;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n_stops && !late; i++)
		late = stops[i].from < to && from < stops[i].to;
	pthread_mutex_unlock(&lock);
	return late;
}

uint64_t witness_latest(void)
{
	uint64_t r;

	pthread_mutex_lock(&lock);
	r = latest;
	latest = 0;
	pthread_mutex_unlock(&lock);
	return r;
}
