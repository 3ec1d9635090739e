/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Helpers: threads that make system calls on our own mount, or notify the kernel.
 * Both can block for as long as a local request in the same directory is unanswered,
 * which is why the loop does neither. A helper has one job at a time and touches
 * nothing but that job.
 *
 * One of them is the notifier, for JOB_FORGET and JOB_RENEW alone. The others have no part in the
 * daemon's open files.
 */
#ifndef ETCFS_HELPER_H
#define ETCFS_HELPER_H

#include <pthread.h>

#include "etcfs/etcfs_i.h"

struct job {
	struct list link;		/* in echo.jobs or echo.running */
	struct list turn;		/* in dir->echoes, but for a notice */
	struct list ready;		/* in echo.ready or echo.notices */
	enum job_kind kind;
	struct node *node, *dir;	/* the loop's alone */
	uint64_t since;			/* uv_now() when it was queued */
	uint64_t given;			/* and when a helper got it; 0: none has */
	bool expired;			/* applied without waiting for it; still to be echoed */
	bool stuck;			/* has taken long, and another helper was started */

	/* what the helper needs, filled when it gets the job */
	char *path, *name, *target;
	mode_t mode;
	dev_t rdev;
	uint64_t ino, dir_ino;
	int result;
};

struct helper {
	struct fs *fs;
	pthread_t thread;
	_Atomic pid_t tid;		/* 0 until it runs */
	bool notifier;
	int root;			/* its view of the mount */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct job *job;		/* NULL: idle */
	bool done, stop;
};

struct helper *helper_new(struct fs *fs, bool notifier);
void helper_give(struct helper *helper, struct job *job);
/* The job that it has finished, once. */
struct job *helper_collect(struct helper *helper);
/* Waits until it has ended. */
void helper_free(struct helper *helper);

#endif
