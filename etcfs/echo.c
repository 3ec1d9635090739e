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
#include <unistd.h>

#include "etcfs/helper.h"
#include "lib/log.h"

#define TICK_MS 200

/* --- jobs ------------------------------------------------------------------------- */

static void dispatch(struct fs *fs);

static void job_free(struct fs *fs, struct job *job)
{
	list_del(&job->link);
	if (job->node->job == job)
		job->node->job = NULL;
	node_put(&fs->tree, job->node);
	node_put(&fs->tree, job->dir);
	free(job->path);
	free(job->name);
	free(job->target);
	free(job);
}

static bool queue(struct fs *fs, struct node *node, enum job_kind kind)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job)
		return false;
	job->kind = kind;
	job->node = node_get(node);
	job->dir = node_get(node->parent ? node->parent : node);
	job->name = strdup(node->name);
	job->since = uv_now(fs->loop);
	list_add_tail(&fs->echo.jobs, &job->link);
	if (kind != JOB_FORGET)
		node->job = job;
	if (!uv_is_active((uv_handle_t *)&fs->echo.tick))
		uv_timer_again(&fs->echo.tick);
	return true;
}

static bool has_visible_children(const struct node *dir)
{
	const struct node *child;

	list_for_each(child, &dir->children, sibling)
		if (child->visible)
			return true;
	return false;
}

/* The change without its echo: the kernel only forgets what it knew of the name. */
static void apply_silently(struct fs *fs, struct node *node)
{
	bool show = node->present;

	if (!node->parent || (!show && has_visible_children(node)))
		return;
	if (show && (!node->parent->visible ||
		     tree_find(&fs->tree, node->parent, node->name, TREE_VISIBLE)))
		return;
	fs->echo.silent++;
	queue(fs, node, JOB_FORGET);
	if (show)
		tree_show(&fs->tree, node);
	else
		tree_hide(&fs->tree, node);
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

	while ((node = tree_next_unsettled(&fs->tree))) {
		settle(fs, node);
		node_put(&fs->tree, node);
	}
	dispatch(fs);
}

void echo_linger(struct fs *fs, struct node *dir)
{
	for (; dir && dir->visible && !dir->present; dir = dir->parent)
		dir->linger_until = uv_now(fs->loop) + LINGER_MS;
}

/* --- jobs and helpers --------------------------------------------------------------- */

static bool dir_is_busy(struct fs *fs, const struct job *job)
{
	struct job *other;

	list_for_each(other, &fs->echo.running, link)
		if (other->dir == job->dir)
			return true;
	return false;
}

static bool still_wanted(const struct job *job)
{
	const struct node *node = job->node;

	switch (job->kind) {
	case JOB_CREATE:
		return node->present && !node->visible && node->parent;
	case JOB_REMOVE:
		return node->visible && !node->present && !node->fresh && node->parent;
	case JOB_MODIFY:
	case JOB_ATTRIB:
		return node->visible && node->parent;
	default:
		return true;
	}
}

/* What the helper has to know, as it is now. */
static bool prepare(struct job *job)
{
	struct node *node = job->node;

	if (job->kind != JOB_FORGET && node->parent != job->dir) {
		return false;
	} else if (job->kind != JOB_FORGET) {
		free(job->name);
		job->name = strdup(node->name);
	}
	job->path = node_path(job->dir);
	job->mode = node->attr.mode;
	job->rdev = node->attr.rdev;
	job->ino = node->ino;
	job->dir_ino = job->dir->ino;
	if (S_ISLNK(node->attr.mode))
		job->target = strndup((const char *)node->content->data, node->content->len);
	return job->path && job->name && (!S_ISLNK(node->attr.mode) || job->target);
}

static struct helper *idle_helper(struct fs *fs)
{
	struct echo *echo = &fs->echo;

	for (unsigned i = 0; i < echo->n_helpers; i++)
		if (!echo->helpers[i]->job)
			return echo->helpers[i];
	if (echo->n_helpers >= HELPERS)
		return NULL;
	echo->helpers[echo->n_helpers] = helper_new(fs);
	return echo->helpers[echo->n_helpers] ? echo->helpers[echo->n_helpers++] : NULL;
}

/* Gives jobs to idle helpers, in order within each directory. */
static void dispatch(struct fs *fs)
{
	struct job *job, *tmp;
	struct helper *helper;

	if (!fs->mount.mounted || fs->mount.ending)
		return;
	list_for_each_safe(job, tmp, &fs->echo.jobs, link) {
		if (dir_is_busy(fs, job))
			continue;
		helper = idle_helper(fs);
		if (!helper)
			return;
		if (!still_wanted(job) || !prepare(job)) {
			tree_unsettle(&fs->tree, job->node);
			job_free(fs, job);
			continue;
		}
		list_del(&job->link);
		list_add_tail(&fs->echo.running, &job->link);
		helper_give(helper, job);
	}
}

/* A job came back. Where the change has not taken effect although it is still to be,
 * the helper was not able to: it is applied without it. */
static void finish(struct fs *fs, struct job *job)
{
	struct node *node = job->node;
	bool change = job->kind == JOB_CREATE || job->kind == JOB_REMOVE;

	if (job->result)
		log_debug("an echo failed", LOG_STR("name", job->name), LOG_ERR(job->result));
	if (node->job == job)
		node->job = NULL;
	if (change && !job->expired && still_wanted(job))
		apply_silently(fs, node);
	else if (!job->result)
		fs->echo.shown++;
	tree_unsettle(&fs->tree, node);
	job_free(fs, job);
}

static void on_finished(uv_async_t *async)
{
	struct fs *fs = async->data;

	fs_now(fs);
	for (unsigned i = 0; i < fs->echo.n_helpers; i++) {
		struct job *job = helper_collect(fs->echo.helpers[i]);

		if (job)
			finish(fs, job);
	}
	if (!fs->mount.mounted)
		echo_leave(fs);
	echo_settle(fs);
}

/* The view of the mount is closed when no helper is at work in it. */
void echo_leave(struct fs *fs)
{
	if (!list_empty(&fs->echo.running) || fs->echo.root < 0)
		return;
	close(fs->echo.root);
	fs->echo.root = -1;
}

/* --- time ------------------------------------------------------------------------- */

/* A change that waited too long takes effect now. A helper that is stuck keeps its
 * job; another takes its place. */
static void expire(struct fs *fs, struct job *job, bool running)
{
	struct node *node = job->node;
	bool change = job->kind == JOB_CREATE || job->kind == JOB_REMOVE;

	if (job->expired || uv_now(fs->loop) - job->since < ECHO_DEADLINE_MS)
		return;
	if (running && fs->echo.n_helpers < HELPERS_MAX) {
		struct helper *more = helper_new(fs);

		if (more)
			fs->echo.helpers[fs->echo.n_helpers++] = more;
	}
	if (running)
		job->expired = true;
	if (!change)
		return;
	if (node->job == job)
		node->job = NULL;
	if (still_wanted(job))
		apply_silently(fs, node);
	tree_unsettle(&fs->tree, node);
	if (!running)
		job_free(fs, job);
}

static void tick(uv_timer_t *timer)
{
	struct fs *fs = timer->data;
	struct echo *echo = &fs->echo;
	struct node *node, *next;
	struct job *job, *tmp;

	fs_now(fs);
	list_for_each_safe(job, tmp, &echo->jobs, link)
		expire(fs, job, false);
	list_for_each_safe(job, tmp, &echo->running, link)
		expire(fs, job, true);
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

	if (!job || job->kind != kind || job->expired || !still_wanted(job) ||
	    job->node->parent != dir || strcmp(job->node->name, name))
		return NULL;
	return job->node;
}

/* --- beginning and end -------------------------------------------------------------- */

int echo_start(struct fs *fs)
{
	struct echo *echo = &fs->echo;

	list_init(&echo->jobs);
	list_init(&echo->running);
	list_init(&echo->lingering);
	echo->root = -1;
	echo->finished.data = fs;
	echo->tick.data = fs;
	uv_timer_init(fs->loop, &echo->tick);
	uv_timer_start(&echo->tick, tick, TICK_MS, TICK_MS);
	return uv_async_init(fs->loop, &echo->finished, on_finished);
}

void echo_stop(struct fs *fs)
{
	struct echo *echo = &fs->echo;
	struct node *node, *next;
	struct job *job, *tmp;

	for (unsigned i = 0; i < echo->n_helpers; i++)
		helper_free(echo->helpers[i]);
	echo->n_helpers = 0;
	if (echo->root >= 0)
		close(echo->root);
	list_splice_tail(&echo->jobs, &echo->running);
	list_for_each_safe(job, tmp, &echo->jobs, link)
		job_free(fs, job);
	list_for_each_safe(node, next, &echo->lingering, lingering) {
		list_del(&node->lingering);
		node_put(&fs->tree, node);
	}
	uv_close((uv_handle_t *)&echo->finished, NULL);
	uv_close((uv_handle_t *)&echo->tick, NULL);
}
