// SPDX-License-Identifier: Apache-2.0
/*
 * Local programs hear of changes made elsewhere. The kernel sends inotify events for
 * what is done through it, and for nothing else; so a helper thread does to our own
 * mount what was done elsewhere, and the daemon, which knows the helper by its thread
 * id, answers it from memory. That is the echo.
 *
 * What is to be created stays hidden until the helper's request arrives, and what is
 * to be removed stays; else the kernel would find the work done and send nothing. A
 * node's job is made from what it is then, not from the events that led there: several
 * changes of one file in a row make one echo.
 *
 * Within a directory the echoes are in the order of the revisions: one at a time.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "etcfs/helper.h"
#include "lib/log.h"

#define TICK_MS 200

/* --- jobs ------------------------------------------------------------------------- */

static void dispatch(struct fs *fs);

static bool is_notice(const struct job *job)
{
	return job->kind == JOB_FORGET || job->kind == JOB_RENEW;
}

/* The first job of the directory may go to a helper. */
static void next_turn(struct fs *fs, struct node *dir)
{
	struct job *first;

	if (list_empty(&dir->echoes))
		return;
	first = list_first(&dir->echoes, struct job, turn);
	if (!first->given && list_empty(&first->ready))
		list_add_tail(&fs->echo.ready, &first->ready);
}

static void job_free(struct fs *fs, struct job *job)
{
	list_del(&job->link);
	list_del(&job->ready);
	list_del(&job->turn);
	next_turn(fs, job->dir);
	if (job->node->job == job)
		job->node->job = NULL;
	node_put(&fs->tree, job->node);
	node_put(&fs->tree, job->dir);
	free(job->path);
	free(job->name);
	free(job->target);
	free(job);
}

static struct job *job_new(struct fs *fs, struct node *node, struct node *dir, enum job_kind kind)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->kind = kind;
	job->node = node_get(node);
	job->dir = node_get(dir);
	job->name = strdup(node->name);
	job->since = uv_now(fs->loop);
	list_add_tail(&fs->echo.jobs, &job->link);
	list_init(&job->ready);
	list_init(&job->turn);
	if (is_notice(job)) {
		list_add_tail(&fs->echo.notices, &job->ready);
	} else {
		list_add_tail(&dir->echoes, &job->turn);
		next_turn(fs, dir);
	}
	if (!uv_is_active((uv_handle_t *)&fs->echo.tick))
		uv_timer_again(&fs->echo.tick);
	return job;
}

static bool queue(struct fs *fs, struct node *node, enum job_kind kind)
{
	node->job = job_new(fs, node, node->parent, kind);
	return node->job;
}

/* For the notifier. */
static void queue_notice(struct fs *fs, struct node *dir, struct node *node, enum job_kind kind)
{
	job_new(fs, node, dir, kind);
}

static bool has_visible_children(const struct node *dir)
{
	const struct node *child;

	list_for_each(child, &dir->children, sibling)
		if (child->visible)
			return true;
	return false;
}

/* Shows or hides the node; false where that is not possible yet. */
static bool apply(struct fs *fs, struct node *node)
{
	if (!node->parent)
		return false;
	if (!node->present) {
		if (has_visible_children(node))
			return false;
		tree_hide(&fs->tree, node);
		return true;
	}
	if (!node->parent->visible ||
	    tree_find(&fs->tree, node->parent, node->name, TREE_VISIBLE))
		return false;
	tree_show(&fs->tree, node);
	return true;
}

/* The change without its echo: the kernel only forgets what it knew of the name. */
static void apply_silently(struct fs *fs, struct node *node)
{
	struct node *dir = node->parent;

	if (!apply(fs, node))
		return;
	fs->echo.silent++;
	queue_notice(fs, dir, node, JOB_FORGET);
}

/* --- what a node needs ------------------------------------------------------------ */

/* Nobody can watch a directory, or have a name of it cached, that the kernel does not
 * know. */
static bool kernel_knows(struct fs *fs, const struct node *dir)
{
	return fs->mount.mounted && (dir == fs->tree.root || dir->nlookup);
}

static void settle_gone(struct fs *fs, struct node *node)
{
	struct edit *edit = node->edit;

	/* who replaces the whole value here makes the file again */
	if (edit && (edit->delta.whole || edit->taken.whole)) {
		node->fresh = true;
		edit->base = 0;
		return;
	}
	if (has_visible_children(node))
		return;
	if (node->linger_until > uv_now(fs->loop)) {
		if (list_empty(&node->lingering)) {
			list_add_tail(&fs->echo.lingering, &node->lingering);
			node_get(node);
			uv_timer_again(&fs->echo.tick);
		}
		return;
	}
	if (!kernel_knows(fs, node->parent))
		tree_hide(&fs->tree, node);
	else if (!queue(fs, node, JOB_REMOVE))
		apply_silently(fs, node);
}

static void settle_new(struct fs *fs, struct node *node)
{
	if (!node->parent->visible ||
	    tree_find(&fs->tree, node->parent, node->name, TREE_VISIBLE))
		return;		/* settled again when that changes */
	if (!kernel_knows(fs, node->parent))
		tree_show(&fs->tree, node);
	else if (!queue(fs, node, JOB_CREATE))
		apply_silently(fs, node);
}

static void settle_changed(struct fs *fs, struct node *node)
{
	enum job_kind kind = node->changed ? JOB_MODIFY : JOB_ATTRIB;

	node->changed = node->touched = false;
	if (node->nlookup || (node->parent && kernel_knows(fs, node->parent)))
		queue(fs, node, kind);
}

static void settle(struct fs *fs, struct node *node)
{
	if (node->job || node == fs->tree.root || !node->parent)
		return;
	if (node->visible && !node->present && !node->fresh)
		settle_gone(fs, node);
	else if (!node->visible && node->present)
		settle_new(fs, node);
	else if (node->visible && (node->changed || node->touched))
		settle_changed(fs, node);
	else if (!node->visible && !node->present)
		tree_hide(&fs->tree, node);
}

void echo_settle(struct fs *fs)
{
	struct node *node;

	do {
		while ((node = tree_next_unsettled(&fs->tree))) {
			settle(fs, node);
			node_put(&fs->tree, node);
		}
		dispatch(fs);	/* unsettles the nodes of jobs that are not wanted any more */
	} while (!list_empty(&fs->tree.unsettled));
}

void echo_linger(struct fs *fs, struct node *dir)
{
	for (; dir && dir->visible && !dir->present; dir = dir->parent)
		dir->linger_until = uv_now(fs->loop) + LINGER_MS;
}

/* --- jobs and helpers --------------------------------------------------------------- */

static bool still_wanted(const struct job *job)
{
	const struct node *node = job->node;

	switch (job->kind) {
	case JOB_CREATE:
		return node->present && node->parent == job->dir &&
		       node->visible == job->expired;
	case JOB_REMOVE:
		return job->expired || (node->visible && !node->present && !node->fresh &&
					node->parent == job->dir);
	case JOB_MODIFY:
	case JOB_ATTRIB:
		return node->visible && node->parent == job->dir;
	default:
		return true;
	}
}

/* What the helper has to know, as it is now. */
static bool prepare(struct fs *fs, struct job *job)
{
	const struct node *node = job->node;

	if (node->parent == job->dir) {
		free(job->name);
		job->name = strdup(node->name);
	}
	job->path = node_path(job->dir);
	job->mode = node->attr.mode;
	job->rdev = node->attr.rdev;
	job->ino = node->ino;
	job->dir_ino = job->dir->ino;
	if (S_ISLNK(node->attr.mode) && node->content->len)
		job->target = strndup((const char *)node->content->data, node->content->len);
	else
		job->target = strdup("");
	return job->path && job->name && job->target;
}

static struct helper *add_helper(struct fs *fs)
{
	struct echo *echo = &fs->echo;
	struct helper *helper;

	if (echo->n_helpers >= HELPERS_MAX)
		return NULL;
	helper = helper_new(fs, false);
	if (helper)
		echo->helpers[echo->n_helpers++] = helper;
	return helper;
}

static struct helper *idle_helper(struct fs *fs, bool notifier)
{
	struct echo *echo = &fs->echo;

	if (notifier) {
		if (!echo->notifier)
			echo->notifier = helper_new(fs, true);
		return echo->notifier && !echo->notifier->job ? echo->notifier : NULL;
	}
	for (unsigned i = 0; i < echo->n_helpers; i++)
		if (!echo->helpers[i]->job)
			return echo->helpers[i];
	return echo->n_helpers < HELPERS ? add_helper(fs) : NULL;
}

/* Gives what is ready to idle helpers. */
static void give(struct fs *fs, struct list *ready, bool notifier)
{
	struct job *job, *tmp;
	struct helper *helper;

	list_for_each_safe(job, tmp, ready, ready) {
		if (!still_wanted(job)) {
			/* it was moved, and what the kernel knows of it is still old */
			job->node->changed |= job->kind == JOB_MODIFY;
			job->node->touched |= job->kind == JOB_ATTRIB;
			tree_unsettle(&fs->tree, job->node);
			job_free(fs, job);
			continue;
		}
		helper = idle_helper(fs, notifier);
		if (!helper)
			break;
		if (!prepare(fs, job))
			continue;
		job->given = uv_now(fs->loop);
		list_del(&job->ready);
		list_del(&job->link);
		list_add_tail(&fs->echo.running, &job->link);
		helper_give(helper, job);
	}
}

static void dispatch(struct fs *fs)
{
	if (!fs->mount.mounted || fs->mount.ending)
		return;
	give(fs, &fs->echo.ready, false);
	give(fs, &fs->echo.notices, true);
}

/* A job came back. Where the change has not taken effect although it is still to be,
 * the helper was not able to: it is applied without it. */
static void finish(struct fs *fs, struct job *job)
{
	struct node *node = job->node;
	bool change = job->kind == JOB_CREATE || job->kind == JOB_REMOVE;

	fs->echo.progress = uv_now(fs->loop);
	if (job->result)
		log_debug("an echo failed", LOG_I64("kind", job->kind), LOG_STR("name", job->name),
			  LOG_ERR(job->result));
	else
		fs->echo.shown++;
	if (node->job == job)
		node->job = NULL;
	if (job->result && !change && !is_notice(job))
		queue_notice(fs, job->dir, node, JOB_RENEW);
	else if (change && job->expired && job->result)
		queue_notice(fs, job->dir, node, JOB_FORGET);
	else if (change && !job->expired && still_wanted(job))
		apply_silently(fs, node);
	tree_unsettle(&fs->tree, node);
	job_free(fs, job);
}

static void collect(struct fs *fs, struct helper *helper)
{
	struct job *job = helper_collect(helper);

	if (job)
		finish(fs, job);
}

static void on_finished(uv_poll_t *poll, int status, int events)
{
	struct fs *fs = poll->data;
	uint64_t count;

	if (read(fs->echo.event, &count, sizeof(count)) < 0)
		return;
	fs_now(fs);
	for (unsigned i = 0; i < fs->echo.n_helpers; i++)
		collect(fs, fs->echo.helpers[i]);
	if (fs->echo.notifier)
		collect(fs, fs->echo.notifier);
	if (!fs->mount.mounted)
		echo_leave(fs);
	echo_settle(fs);
}

static void free_helpers(struct echo *echo)
{
	for (unsigned i = 0; i < echo->n_helpers; i++)
		helper_free(echo->helpers[i]);
	echo->n_helpers = 0;
	if (echo->notifier)
		helper_free(echo->notifier);
	echo->notifier = NULL;
}

/* The views of the mount go with the helpers, when none is at work. */
void echo_leave(struct fs *fs)
{
	if (list_empty(&fs->echo.running))
		free_helpers(&fs->echo);
}

/* --- time ------------------------------------------------------------------------- */

/* Its echo does not come: the one before it in its directory takes long, or none comes
 * from any helper. */
static bool is_stuck(struct fs *fs, const struct job *job)
{
	const struct job *first = list_first(&job->dir->echoes, struct job, turn);
	uint64_t since = first->given ? first->given : fs->echo.progress;

	return uv_now(fs->loop) - MAX(job->since, since) >= ECHO_DEADLINE_MS;
}

/* A change that waits in vain takes effect now; its echo follows when it can. */
static void expire(struct fs *fs, struct job *job)
{
	bool change = job->kind == JOB_CREATE || job->kind == JOB_REMOVE;

	if (change && !job->expired && still_wanted(job) && is_stuck(fs, job))
		job->expired = apply(fs, job->node);
}

/* For a helper that is stuck there is another. */
static void replace_stuck(struct fs *fs, struct job *job)
{
	if (job->stuck || is_notice(job) ||
	    uv_now(fs->loop) - job->given < ECHO_DEADLINE_MS)
		return;
	job->stuck = true;
	add_helper(fs);
}

static void tick(uv_timer_t *timer)
{
	struct fs *fs = timer->data;
	struct echo *echo = &fs->echo;
	struct node *node, *next;
	struct job *job;

	fs_now(fs);
	list_for_each(job, &echo->jobs, link)
		expire(fs, job);
	list_for_each(job, &echo->running, link) {
		expire(fs, job);
		replace_stuck(fs, job);
	}
	list_for_each_safe(node, next, &echo->lingering, lingering) {
		if (node->linger_until > uv_now(fs->loop))
			continue;
		list_del(&node->lingering);
		tree_unsettle(&fs->tree, node);
		node_put(&fs->tree, node);
	}
	echo_settle(fs);
	if (list_empty(&echo->jobs) && list_empty(&echo->running) && list_empty(&echo->lingering))
		uv_timer_stop(timer);
}

/* --- requests of helpers ------------------------------------------------------------ */

static struct helper *helper_of(struct fs *fs, fuse_req_t req)
{
	pid_t tid = fuse_req_ctx(req)->pid;

	for (unsigned i = 0; i < fs->echo.n_helpers; i++)
		if (atomic_load(&fs->echo.helpers[i]->tid) == tid)
			return fs->echo.helpers[i];
	return NULL;
}

bool echo_is_helper(struct fs *fs, fuse_req_t req)
{
	return helper_of(fs, req);
}

struct node *echo_claim(struct fs *fs, fuse_req_t req, enum job_kind kind,
			const struct node *dir, const char *name)
{
	struct helper *helper = helper_of(fs, req);
	struct job *job = helper ? helper->job : NULL;

	if (!job || job->kind != kind || !still_wanted(job) || job->dir != dir ||
	    strcmp(job->name, name))
		return NULL;
	return job->node;
}

/* --- beginning and end -------------------------------------------------------------- */

int echo_start(struct fs *fs)
{
	struct echo *echo = &fs->echo;

	list_init(&echo->jobs);
	list_init(&echo->ready);
	list_init(&echo->notices);
	list_init(&echo->running);
	list_init(&echo->lingering);
	echo->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (echo->event < 0)
		return -errno;
	uv_poll_init(fs->loop, &echo->finished, echo->event);
	uv_timer_init(fs->loop, &echo->tick);
	echo->finished.data = fs;
	echo->tick.data = fs;
	uv_poll_start(&echo->finished, UV_READABLE, on_finished);
	return uv_timer_start(&echo->tick, tick, TICK_MS, TICK_MS);
}

void echo_stop(struct fs *fs)
{
	struct echo *echo = &fs->echo;
	struct node *node, *next;
	struct job *job, *tmp;

	free_helpers(echo);
	list_splice_tail(&echo->jobs, &echo->running);
	list_for_each_safe(job, tmp, &echo->jobs, link)
		job_free(fs, job);
	list_for_each_safe(node, next, &echo->lingering, lingering) {
		list_del(&node->lingering);
		node_put(&fs->tree, node);
	}
	uv_close((uv_handle_t *)&echo->finished, NULL);
	uv_close((uv_handle_t *)&echo->tick, NULL);
	close(echo->event);
}
