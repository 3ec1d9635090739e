// SPDX-License-Identifier: Apache-2.0
/*
 * What was written here and is not in the cluster yet. Writes change the content in
 * memory, where every local program sees them at once; the cluster gets the whole
 * value in one put when the file is closed or synchronised. A commit is guarded by
 * the revision that was read, unless the file was truncated: somebody else's change
 * in between is ESTALE. What was only appended is appended to their value instead.
 */
#include <errno.h>

#include "etcfs/etcfs_i.h"

struct commit {
	struct op op;
	struct node *node;
	struct attr attr;	/* as sent in the sidecar */
	struct slice key;	/* without the prefix; owned by the txn */
	unsigned attempts;
};

/* Appends that meet a change made elsewhere are tried again this often. */
#define APPEND_ATTEMPTS 64

struct edit *edit_begin(struct node *node)
{
	struct edit *edit = node->edit;

	if (edit)
		return edit;
	edit = calloc(1, sizeof(*edit));
	if (!edit)
		return NULL;
	list_init(&edit->waiting);
	list_init(&edit->next);
	edit->base = node->key.mod_revision;
	node->edit = edit;
	node_get(node);
	return edit;
}

/* Keeps what the cluster has, and what a commit under way has sent, apart from what
 * is about to be changed. */
int edit_change(struct edit *edit, struct node *node, enum edit_change change)
{
	if (!node->committed)
		node->committed = content_new(content_slice(node->content));
	if (edit->running && !edit->sent)
		edit->sent = content_new(content_slice(node->content));
	if (!node->committed || (edit->running && !edit->sent))
		return -ENOMEM;
	if (edit->delta.change == EDIT_NONE)
		edit->delta.append_from = node->content->len;
	edit->delta.change = MAX(edit->delta.change, change);
	return 0;
}

static bool delta_dirty(const struct edit_delta *delta)
{
	return delta->change != EDIT_NONE || delta->written || delta->meta || delta->whole;
}

bool edit_dirty(const struct node *node)
{
	return node->edit && (delta_dirty(&node->edit->delta) || node->edit->running);
}

static void free_edit(struct fs *fs, struct node *node)
{
	struct edit *edit = node->edit;

	BUG_ON(!list_empty(&edit->waiting) || !list_empty(&edit->next) || edit->running);
	content_put(edit->sent);
	free(edit);
	node->edit = NULL;
	node_put(&fs->tree, node);
}

/* A commit under way keeps the edit until it is done. */
void edit_drop(struct fs *fs, struct node *node)
{
	struct edit *edit = node->edit;

	if (!edit)
		return;
	edit->delta = (struct edit_delta){ 0 };
	content_put(node->committed);
	node->committed = NULL;
	if (!edit->running)
		free_edit(fs, node);
}

void edit_revert(struct fs *fs, struct node *node)
{
	struct edit *edit = node->edit;
	bool fresh = node->fresh;

	BUG_ON(edit->running);
	if (node->committed) {
		content_put(node->content);
		node->content = node->committed;
		node->committed = NULL;
	}
	tree_refresh(&fs->tree, node);
	node->changed = true;
	if (fresh)
		tree_forsake(&fs->tree, node);
	else
		tree_unsettle(&fs->tree, node);
	free_edit(fs, node);
}

/* Moves @from to the end of what is answered with @err. Answering can start anything,
 * another commit of this node included, so the list is taken first. */
static void answer(struct list *from, int err)
{
	struct list answered;

	list_init(&answered);
	list_splice_tail(&answered, from);
	while (!list_empty(&answered))
		asker_finish(list_first(&answered, struct asker, wait), err);
}

static void commit_start(struct fs *fs, struct node *node);

/* After a commit: the next one, or the end of the edit. */
static void commit_end(struct fs *fs, struct node *node, int err)
{
	struct edit *edit = node->edit;

	node_get(node);
	edit->running = false;
	edit->error = err;
	content_put(edit->sent);
	edit->sent = NULL;
	answer(&edit->waiting, err);
	edit = node->edit;
	if (edit && !edit->running) {
		list_splice_tail(&edit->waiting, &edit->next);
		if (!list_empty(&edit->waiting) && delta_dirty(&edit->delta)) {
			commit_start(fs, node);
		} else {
			answer(&edit->waiting, err);
			edit = node->edit;
		}
	}
	edit = node->edit;
	if (edit && !edit->running) {
		if (!delta_dirty(&edit->delta)) {
			content_put(node->committed);
			node->committed = NULL;
			free_edit(fs, node);
		} else if (!node->writers && err) {
			edit_revert(fs, node);
		} else if (!node->writers) {
			commit_start(fs, node);
		}
	}
	node_put(&fs->tree, node);
}

/* What was taken by a commit that failed has to be brought by the next. */
static void untake(struct edit *edit)
{
	struct edit_delta *d = &edit->delta;
	const struct edit_delta *t = &edit->taken;

	if (t->change != EDIT_NONE)
		d->append_from = t->append_from;
	d->change = MAX(d->change, t->change);
	d->written |= t->written;
	d->meta |= t->meta;
	d->touched |= t->touched;
	d->whole |= t->whole;
}

static void commit_free(struct commit *commit)
{
	op_release(&commit->op);
	node_put(&commit->op.fs->tree, commit->node);
	free(commit);
}

/* The bytes that were appended go behind what somebody else has put meanwhile. */
static int rebase(struct fs *fs, struct node *node, const Etcdserverpb__TxnResponse *response)
{
	struct edit *edit = node->edit;
	size_t from = edit->delta.append_from, added = node->content->len - from;
	const Etcdserverpb__RangeResponse *range = NULL;
	struct slice theirs = slice_of(NULL, 0);
	struct content *committed;
	uint8_t *tail;
	int err = -ENOMEM;

	if (response->n_responses == 1)
		range = response->responses[0]->response_range;
	if (range && range->n_kvs)
		theirs = slice_of(range->kvs[0]->value.data, range->kvs[0]->value.len);
	if (theirs.len + added > (size_t)fs->config->max_file_size)
		return -EFBIG;
	committed = content_new(theirs);
	tail = malloc(added + 1);
	if (!committed || !tail)
		goto free;
	memcpy(tail, node->content->data + from, added);
	err = content_resize(node->content, theirs.len + added);
	if (err)
		goto free;
	content_write(node->content, 0, theirs);
	content_write(node->content, theirs.len, slice_of(tail, added));
	edit->delta.append_from = theirs.len;
	edit->base = range && range->n_kvs ? range->kvs[0]->mod_revision : 0;
	content_put(node->committed);
	node->committed = content_get(committed);
free:
	content_put(committed);
	free(tail);
	return err;
}

static int commit_conflict(struct commit *commit, const Etcdserverpb__TxnResponse *response)
{
	struct node *node = commit->node;
	struct edit *edit = node->edit;
	int err;

	untake(edit);
	if (edit->delta.change != EDIT_APPEND || commit->attempts >= APPEND_ATTEMPTS)
		return -ESTALE;
	content_put(edit->sent);
	edit->sent = NULL;
	edit->running = false;
	err = rebase(commit->op.fs, node, response);
	edit->running = true;
	return err;
}

static void commit_succeeded(struct commit *commit, int64_t revision)
{
	struct fs *fs = commit->op.fs;
	struct node *node = commit->node, *now;
	struct edit *edit = node->edit;
	struct content *sent = edit->sent ? edit->sent : node->content;
	struct tree_put put = {
		.key = commit->key, .value = content_slice(sent), .own = true,
		.writer = node,
		.version = {
			.create_revision = edit->base ? node->key.create_revision : revision,
			.mod_revision = revision,
			.version = node->key.version + 1,
			.lease = node->key.lease,
		},
	};
	bool meta = edit->taken.meta || node->fresh;

	if (!put.version.create_revision)
		put.version.create_revision = revision;
	edit->taken = (struct edit_delta){ 0 };
	if (tree_put(&fs->tree, &put, &now))
		return;
	if (now != node) {
		/* its place became a directory, or it was moved with one, meanwhile: what
		 * was written is in the cluster, but it is not this file's value */
		if (node->committed) {
			content_put(node->content);
			node->content = content_get(node->committed);
		}
		edit->delta = (struct edit_delta){ 0 };
		node->changed = true;
		tree_forsake(&fs->tree, node);
		return;
	}
	edit->base = revision;
	content_put(node->committed);
	/* NULL: the same as the content */
	node->committed = edit->sent ? content_get(edit->sent) : NULL;
	if (meta)
		op_meta_done(&commit->op, node, &commit->attr, revision);
	else if (!edit->delta.meta)
		tree_refresh(&fs->tree, node);	/* it may be another file by now */
}

static int commit_send(struct commit *commit);

static void on_commit(struct op *op, int err, const Etcdserverpb__TxnResponse *response)
{
	struct commit *commit = container_of(op, struct commit, op);
	struct node *node = node_get(commit->node);
	struct fs *fs = op->fs;

	if (!err && !response->succeeded) {
		err = commit_conflict(commit, response);
		if (!err) {
			commit->attempts++;
			txn_release(&op->txn);
			err = commit_send(commit);
			if (!err) {
				node_put(&fs->tree, node);
				return;
			}
			untake(node->edit);
		}
	} else if (err) {
		untake(node->edit);
	} else {
		commit_succeeded(commit, response->header->revision);
	}
	commit_free(commit);
	commit_end(fs, node, err);
	node_put(&fs->tree, node);
}

static int commit_send(struct commit *commit)
{
	struct node *node = commit->node;
	struct edit *edit = node->edit;
	struct fs *fs = commit->op.fs;
	struct txn *txn = &commit->op.txn;
	size_t lead = strlen(fs->prefix);
	struct slice key;

	if (!node->parent)
		return -ESTALE;
	key = txn_own(txn, node_key(node, fs->prefix));
	if (!key.data)
		return -ENOMEM;
	commit->key = slice_of(key.data + lead, key.len - lead);
	commit->attr = node->attr;
	if (!edit->delta.whole)
		txn_require(txn, TXN_MOD, key, edit->base);
	txn_put(txn, key, content_slice(node->content), node->key.lease);
	if (edit->delta.meta || node->fresh)
		op_add_meta(&commit->op, node, &commit->attr);
	txn_else_read(txn, key);
	edit->taken = edit->delta;
	edit->delta = (struct edit_delta){ 0 };
	return op_start(&commit->op, on_commit);
}

static void commit_start(struct fs *fs, struct node *node)
{
	struct commit *commit = calloc(1, sizeof(*commit));
	struct edit *edit = node->edit;
	int err;

	if (!commit) {
		answer(&edit->waiting, -ENOMEM);
		return;
	}
	op_init(&commit->op, fs, NULL);
	commit->node = node_get(node);
	edit->running = true;
	edit->taken = (struct edit_delta){ 0 };
	err = commit_send(commit);
	if (err) {
		untake(edit);
		commit_free(commit);
		commit_end(fs, node, err);
	}
}

void edit_commit(struct fs *fs, struct node *node, struct asker *asker)
{
	struct edit *edit = node->edit;

	if (!edit || (!edit->running && !delta_dirty(&edit->delta))) {
		if (asker)
			asker_finish(asker, 0);
		return;
	}
	if (asker)
		list_add_tail(edit->running && delta_dirty(&edit->delta) ? &edit->next
			      : &edit->waiting, &asker->wait);
	if (!edit->running)
		commit_start(fs, node);
}

void edit_wait(struct node *node, struct asker *asker)
{
	if (node->edit && node->edit->running)
		list_add_tail(&node->edit->waiting, &asker->wait);
	else
		asker_finish(asker, 0);
}
