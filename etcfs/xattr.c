// SPDX-License-Identifier: Apache-2.0
/* What the cluster knows of a key, as extended attributes user.etcd.*; read-only. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "etcfs/etcfs_i.h"

#define LEAD "user.etcd."
#define NUMBER_MAX 24

static struct slice number(int64_t value, char text[NUMBER_MAX])
{
	snprintf(text, NUMBER_MAX, "%" PRId64, value);
	return slice_str(text);
}

static int64_t revision(const struct node *node) { return node->key.mod_revision; }
static int64_t create_revision(const struct node *node) { return node->key.create_revision; }
static int64_t version(const struct node *node) { return node->key.version; }
static int64_t lease(const struct node *node) { return node->key.lease; }

/* Beside user.etcd.key, which is bytes. */
static const struct {
	const char *name;
	int64_t (*get)(const struct node *node);
} numbers[] = {
	{ LEAD "revision", revision },
	{ LEAD "create_revision", create_revision },
	{ LEAD "version", version },
	{ LEAD "lease", lease },
};

static void reply(fuse_req_t req, struct slice value, size_t size)
{
	if (!size)
		fuse_reply_xattr(req, value.len);
	else if (value.len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, (const char *)value.data, value.len);
}

void fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *fs = fs_of(req);
	struct node *node = tree_find_ino(&fs->tree, ino);
	char text[NUMBER_MAX];
	struct slice key;

	if (!node) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	if (!strncmp(name, "system.", 7)) {
		/* no access control lists: not none, or "ls -l" shows a "+" */
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	if (!strcmp(name, LEAD "key") && (node->parent || node == fs->tree.root)) {
		key = node_key(node, fs->prefix);
		if (key.data)
			reply(req, key, size);
		else
			fuse_reply_err(req, ENOMEM);
		free((void *)key.data);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (strcmp(name, numbers[i].name) || !node->key.mod_revision)
			continue;
		reply(req, number(numbers[i].get(node), text), size);
		return;
	}
	if (!strcmp(name, LEAD "stale") && fs->sync.lost)
		reply(req, SLICE_LIT("1"), size);
	else
		fuse_reply_err(req, ENODATA);
}

void fs_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	static const char all[] = LEAD "key\0" LEAD "revision\0" LEAD "create_revision\0"
				  LEAD "version\0" LEAD "lease";
	struct fs *fs = fs_of(req);
	struct node *node = tree_find_ino(&fs->tree, ino);

	if (!node)
		fuse_reply_err(req, ESTALE);
	else if (node->key.mod_revision)
		reply(req, slice_of(all, sizeof(all)), size);
	else
		reply(req, slice_of(all, sizeof(LEAD "key")), size);
}

void fs_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		 size_t size, int flags)
{
	fuse_reply_err(req, EOPNOTSUPP);
}

void fs_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	fuse_reply_err(req, EOPNOTSUPP);
}
