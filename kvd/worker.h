/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that carries out jobs, in order, and hands them back to a libuv loop.
 *
 * run() gets all jobs that have queued while the last ones were carried out, as one
 * list: that is what makes one fsync serve many appends. done() gets them back on
 * the loop's thread. A job is a list node inside something of the caller's.
 */
#ifndef KVD_WORKER_H
#define KVD_WORKER_H

#include <pthread.h>
#include <uv.h>

#include "include/list.h"

struct worker {
	void (*run)(struct worker *worker, struct list *jobs);	/* on the thread */
	void (*done)(struct worker *worker, struct list *jobs);	/* on the loop */
	void *user;
	int nice;		/* of the thread; above 0, others go first */

	uv_async_t async;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list in, out;		/* under lock */
	bool stop;
};

/* @worker has run, done and user set. @name is the thread's, at most 15 bytes. */
int worker_start(struct worker *worker, uv_loop_t *loop, const char *name);
void worker_submit(struct worker *worker, struct list *job);
/* Waits until every job is carried out, and hands all of them back before it
 * returns. The handle closes on the loop: run that once more before freeing. */
void worker_stop(struct worker *worker);

#endif
