// SPDX-License-Identifier: Apache-2.0

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kvd/worker.h"

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct list jobs;

	if (w->nice)
		setpriority(PRIO_PROCESS, (id_t)gettid(), getpriority(PRIO_PROCESS, 0) + w->nice);
	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (list_empty(&w->in) && !w->stop)
			pthread_cond_wait(&w->wake, &w->lock);
		if (list_empty(&w->in))
			break;
		list_init(&jobs);
		list_splice_tail(&jobs, &w->in);
		pthread_mutex_unlock(&w->lock);
		w->run(w, &jobs);
		pthread_mutex_lock(&w->lock);
		list_splice_tail(&w->out, &jobs);
		pthread_mutex_unlock(&w->lock);
		uv_async_send(&w->async);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void deliver(uv_async_t *async)
{
	struct worker *w = async->data;
	struct list jobs;

	list_init(&jobs);
	pthread_mutex_lock(&w->lock);
	list_splice_tail(&jobs, &w->out);
	pthread_mutex_unlock(&w->lock);
	if (!list_empty(&jobs))
		w->done(w, &jobs);
}

int worker_start(struct worker *worker, uv_loop_t *loop, const char *name)
{
	sigset_t all, before;
	int err;

	list_init(&worker->in);
	list_init(&worker->out);
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->wake, NULL);
	worker->async.data = worker;
	err = uv_async_init(loop, &worker->async, deliver);
	if (err)
		return err;
	/* signals are the loop's */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	err = -pthread_create(&worker->thread, NULL, worker_main, worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!err)
		pthread_setname_np(worker->thread, name);
	return err;
}

void worker_submit(struct worker *worker, struct list *job)
{
	pthread_mutex_lock(&worker->lock);
	list_add_tail(&worker->in, job);
	pthread_mutex_unlock(&worker->lock);
	/* after the unlock, or the thread would wake only to wait for it */
	pthread_cond_signal(&worker->wake);
}

void worker_stop(struct worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	worker->stop = true;
	pthread_cond_signal(&worker->wake);
	pthread_mutex_unlock(&worker->lock);
	pthread_join(worker->thread, NULL);
	deliver(&worker->async);
	uv_close((uv_handle_t *)&worker->async, NULL);
}
