// SPDX-License-Identifier: Apache-2.0
/* Who asks, and what is asked of the cluster. gRPC's codes become errno here. */
#include <errno.h>

#include "etcfs/etcfs_i.h"
#include "lib/log.h"

/* --- askers ----------------------------------------------------------------------- */

/* Called while libfuse holds the request's lock: it is answered later, by
 * run_out(). */
static void on_interrupt(fuse_req_t req, void *data)
{
	struct asker *asker = data;

	asker->interrupted = true;
	asker->fs->interrupted = true;
}

void asker_init(struct asker *asker, struct fs *fs, fuse_req_t req)
{
	*asker = (struct asker){ .fs = fs, .req = req, .since = uv_now(fs->loop) };
	list_init(&asker->wait);
	list_add_tail(&fs->askers, &asker->link);
	if (req)
		fuse_req_interrupt_func(req, on_interrupt, asker);
}

struct asker *asker_new(struct fs *fs, fuse_req_t req)
{
	struct asker *asker = malloc(sizeof(*asker));

	if (asker)
		asker_init(asker, fs, req);
	return asker;
}

fuse_req_t asker_take(struct asker *asker)
{
	fuse_req_t req = asker->req;

	if (req)
		fuse_req_interrupt_func(req, NULL, NULL);
	asker->req = NULL;
	list_del(&asker->link);
	list_del(&asker->wait);
	return req;
}

void asker_finish(struct asker *asker, int err)
{
	fuse_req_t req = asker_take(asker);

	if (asker->fn) {
		asker->fn(asker, err);
		return;
	}
	if (req)
		fuse_reply_err(req, -err);
	free(asker);
}

/* Answers the interrupted that have waited long enough, and comes back for the others. */
static void run_out(uv_timer_t *timer)
{
	struct fs *fs = timer->data;
	struct asker *asker;
	uint64_t wait = PATIENCE_MS, waited;
	bool more = false;

	list_for_each(asker, &fs->askers, link) {
		fuse_req_t req = asker->req;

		if (!asker->interrupted || !req)
			continue;
		waited = uv_now(fs->loop) - asker->since;
		if (waited < PATIENCE_MS) {
			wait = MIN(wait, PATIENCE_MS - waited);
			more = true;
			continue;
		}
		fuse_req_interrupt_func(req, NULL, NULL);
		asker->req = NULL;
		fuse_reply_err(req, EINTR);
	}
	if (more)
		uv_timer_start(timer, run_out, wait, 0);
}

void askers_interrupt(struct fs *fs)
{
	if (!fs->interrupted)
		return;
	fs->interrupted = false;
	run_out(&fs->patience);
}

void askers_start(struct fs *fs)
{
	list_init(&fs->askers);
	uv_timer_init(fs->loop, &fs->patience);
	fs->patience.data = fs;
}

void askers_stop(struct fs *fs)
{
	uv_close((uv_handle_t *)&fs->patience, NULL);
}

/* --- calls ------------------------------------------------------------------------ */

static int errno_of(const struct client_result *result)
{
	switch (result->code) {
	case GRPC_OK:
		return 0;
	case GRPC_CANCELED:
	case GRPC_DEADLINE_EXCEEDED:
	case GRPC_UNAVAILABLE:
		return result->unknown ? -EIO : -ETIMEDOUT;
	case GRPC_RESOURCE_EXHAUSTED:
		return strstr(result->text, "space") ? -ENOSPC :
		       strstr(result->text, "too many") ? -EAGAIN : -EFBIG;
	case GRPC_INVALID_ARGUMENT:
		return strstr(result->text, "too large") ? -EFBIG : -EINVAL;
	case GRPC_PERMISSION_DENIED:
	case GRPC_UNAUTHENTICATED:
		return -EACCES;
	default:
		return -EIO;
	}
}

void op_init(struct op *op, struct fs *fs, fuse_req_t req)
{
	op->fs = fs;
	list_init(&op->link);
	txn_init(&op->txn);
	asker_init(&op->asker, fs, req);
}

void op_release(struct op *op)
{
	list_del(&op->link);
	if (!list_empty(&op->asker.link))
		asker_take(&op->asker);
	txn_release(&op->txn);
}

static void on_txn(void *user, const struct client_result *result)
{
	struct op *op = user;
	struct fs *fs = op->fs;
	int err = errno_of(result);

	if (err)
		log_warn("the cluster did not take a change", LOG_STR("error", result->text),
			 LOG_BOOL("may-have-happened", result->unknown));
	list_del(&op->link);
	sync_health(fs, err);
	fs_now(fs);
	op->done(op, err, err ? NULL : (const Etcdserverpb__TxnResponse *)result->response);
	echo_settle(fs);
	sync_apply(fs);
}

int op_start(struct op *op,
	     void (*done)(struct op *op, int err, const Etcdserverpb__TxnResponse *response))
{
	struct fs *fs = op->fs;
	int err;

	if (op->txn.failed)
		return -ENOMEM;
	if (fs->sync.lost)
		return -EROFS;
	op->done = done;
	err = client_call(fs->client, &client_kv_txn, &op->txn.request.base,
			  (unsigned)MILLISECONDS(fs->config->timeout), on_txn, op, NULL);
	if (!err)
		list_add_tail(&fs->ops, &op->link);
	return err;
}

bool ops_write(struct fs *fs, struct slice key)
{
	struct op *op;

	list_for_each(op, &fs->ops, link) {
		if (txn_writes(&op->txn, key))
			return true;
		for (size_t i = 0; i < ARRAY_SIZE(op->hold); i++)
			if (op->hold[i].len && slice_has_prefix(key, op->hold[i]))
				return true;
	}
	return false;
}

/* --- sidecars --------------------------------------------------------------------- */

static struct slice meta_key(struct fs *fs, const struct node *place)
{
	return node_key(place, node_is_dir(place) ? fs->lead_dir : fs->lead_file);
}

static const struct meta *known_meta(struct fs *fs, const struct node *place)
{
	struct slice key = node_meta_key(place);
	const struct meta *meta = NULL;

	if (key.data)
		meta = meta_find(&fs->tree.metas, slice_of(key.data + strlen(META_LEAD),
							   key.len - strlen(META_LEAD)));
	free((void *)key.data);
	return meta;
}

void op_delete_meta(struct op *op, const struct node *place)
{
	struct fs *fs = op->fs;

	if (fs->tree.defaults.meta && known_meta(fs, place))
		txn_delete(&op->txn, txn_own(&op->txn, meta_key(fs, place)), slice_of(NULL, 0));
}

void op_add_meta(struct op *op, const struct node *place, const struct attr *attr)
{
	struct fs *fs = op->fs;
	char *text = malloc(META_TEXT_MAX);
	struct slice value;

	if (!fs->tree.defaults.meta) {
		free(text);
		return;
	}
	value = txn_own(&op->txn, slice_of(text, 0));
	if (!text || !value.data)
		return;
	value.len = meta_text(attr, &fs->tree.defaults, text);
	if (value.len)
		txn_put(&op->txn, txn_own(&op->txn, meta_key(fs, place)), value, 0);
	else
		op_delete_meta(op, place);
}

void op_meta_deleted(struct op *op, struct slice key, int64_t revision)
{
	struct fs *fs = op->fs;
	struct slice meta_key;

	tree_key_reserved(key, &meta_key);
	if (!meta_find(&fs->tree.metas, meta_key))
		return;
	tree_delete(&fs->tree, key, revision);
	sync_deleted(fs, key, revision);
}

void op_meta_done(struct op *op, const struct node *place, const struct attr *attr,
		  int64_t revision)
{
	struct fs *fs = op->fs;
	char text[META_TEXT_MAX];
	struct tree_put put = { .own = true, .writer = place, .version.mod_revision = revision };

	if (!fs->tree.defaults.meta)
		return;
	put.key = node_meta_key(place);
	if (!put.key.data)
		return;
	put.value = slice_of(text, meta_text(attr, &fs->tree.defaults, text));
	if (put.value.len)
		tree_put(&fs->tree, &put, NULL);
	else
		op_meta_deleted(op, put.key, revision);
	free((void *)put.key.data);
}
