// SPDX-License-Identifier: Apache-2.0
/* From keys to nodes: what a put and a delete in the cluster do to the tree. */
#include "etcfs/tree.h"

#include "etcfs/name.h"
#include "etcfs/tree_i.h"

int tree_init(struct tree *tree, const struct attr_defaults *defaults)
{
	*tree = (struct tree){ .defaults = *defaults, .next_ino = ROOT_INO };
	list_init(&tree->unsettled);
	if (table_init(&tree->by_ino) || table_init(&tree->by_name) || table_init(&tree->metas))
		goto no_memory;
	tree->root = node_new(tree, NULL, "", S_IFDIR);
	if (!tree->root)
		goto no_memory;
	node_get(tree->root);
	tree->root->present = tree->root->visible = true;
	return 0;
no_memory:
	tree_release(tree);
	return -ENOMEM;
}

/* At the end nothing refers to a node any more; each is freed as it stands. */
void tree_release(struct tree *tree)
{
	for (size_t i = 0; tree->by_ino.buckets && i <= tree->by_ino.mask; i++) {
		struct table_link *link = tree->by_ino.buckets[i], *next;

		for (; link; link = next) {
			struct node *node = container_of(link, struct node, by_ino);

			next = link->next;
			content_put(node->content);
			content_put(node->committed);
			free(node->name);
			free(node);
		}
	}
	table_release(&tree->by_ino);
	table_release(&tree->by_name);
	meta_release(&tree->metas);
}

bool tree_key_reserved(struct slice key, struct slice *meta_key)
{
	*meta_key = slice_of(NULL, 0);
	if (slice_has_prefix(key, SLICE_LIT(META_LEAD)))
		*meta_key = slice_of(key.data + strlen(META_LEAD), key.len - strlen(META_LEAD));
	return slice_eq(key, SLICE_LIT(TREE_RESERVED)) ||
	       slice_has_prefix(key, SLICE_LIT(TREE_RESERVED "/"));
}

/* --- present or not --------------------------------------------------------------- */

void keep_dir(struct node *node, int n)
{
	if (strcmp(node->name, NAME_VALUE))
		node->parent->n_keeping += (size_t)n;
}

static void set_present(struct tree *tree, struct node *node, bool present)
{
	if (node->present == present)
		return;
	node->present = present;
	keep_dir(node, present ? 1 : -1);
	if (!present)
		node->key = (struct version){ 0 };
	tree_unsettle(tree, node);
}

static void set_content(struct node *node, struct content *content)
{
	struct content **at = node->committed ? &node->committed : &node->content;

	content_put(*at);
	*at = content_get(content);
}

/* The file @name of @dir as the cluster has it; one that is on its way out comes back. */
static struct node *make_file(struct tree *tree, struct node *dir, const char *name, mode_t type)
{
	struct node *node = tree_find(tree, dir, name, TREE_PRESENT);

	if (node && (node->attr.mode & S_IFMT) == type)
		return node;
	if (node)
		set_present(tree, node, false);
	node = tree_find(tree, dir, name, TREE_VISIBLE);
	if (!node || (node->attr.mode & S_IFMT) != type)
		node = node_new(tree, dir, name, type);
	if (!node)
		return NULL;
	node->fresh = node->unlinked = false;
	set_present(tree, node, true);
	return node;
}

/* A file that moves because a key became a directory, or is none any more. */
struct uprooted {
	struct version key;
	struct attr attr;
	uint64_t generation;
	struct content *content;
};

static void uproot(struct tree *tree, struct node *file, struct uprooted *up)
{
	*up = (struct uprooted){
		.key = file->key, .attr = file->attr, .generation = file->generation,
	};
	up->content = content_get(file->committed ? file->committed : file->content);
	set_present(tree, file, false);
}

static int plant(struct tree *tree, struct uprooted *up, struct node *dir, const char *name,
		 mode_t type)
{
	/* a copy: handles of the old file may go on changing theirs */
	struct content *content = content_new(content_slice(up->content));
	struct node *node = content ? make_file(tree, dir, name, type) : NULL;

	if (node) {
		node->key = up->key;
		node->attr = up->attr;
		node->attr.mode = type | (up->attr.mode & 07777);
		set_content(node, content);
		tree_refresh(tree, node);
		node->generation = up->generation;
		node->changed = true;
	}
	content_put(content);
	content_put(up->content);
	return node ? 0 : -ENOMEM;
}

static int make_dir(struct tree *tree, struct node *parent, const char *name, struct node **out)
{
	struct node *file = tree_find(tree, parent, name, TREE_PRESENT), *dir;
	struct uprooted up;

	if (file && node_is_dir(file)) {
		*out = file;
		return 0;
	}
	if (file)
		uproot(tree, file, &up);
	dir = make_file(tree, parent, name, S_IFDIR);
	if (!dir) {
		if (file)
			content_put(up.content);
		return -ENOMEM;
	}
	*out = dir;
	tree_refresh(tree, dir);
	return file ? plant(tree, &up, dir, NAME_VALUE, up.attr.mode & S_IFMT) : 0;
}

void tree_keep_dirs(struct tree *tree, struct node *dir)
{
	for (; !dir->present; dir = dir->parent)
		set_present(tree, dir, true);
}

void tree_check_dir(struct tree *tree, struct node *dir)
{
	while (dir->parent && dir->present && !dir->n_keeping && !dir->key.mod_revision) {
		struct node *parent = dir->parent;
		struct node *value = tree_find(tree, dir, NAME_VALUE, TREE_PRESENT);
		struct uprooted up;

		if (value)
			uproot(tree, value, &up);
		set_present(tree, dir, false);
		if (value) {
			plant(tree, &up, parent, dir->name, up.attr.mode & S_IFMT);
			return;
		}
		dir = parent;
	}
}

/* --- walking ---------------------------------------------------------------------- */

/* Makes the directories of all components but the last, whose name is @last. */
static int make_parents(struct tree *tree, struct slice key, struct node **dir,
			char last[NAME_MAX + 1])
{
	struct slice rest = key, component;
	bool end = false;
	int err;

	if (key.len > TREE_KEY_MAX)
		return -ENAMETOOLONG;
	while (name_next_component(&rest, &end, &component)) {
		err = name_from_component(component, last);
		if (err)
			return err;
	}
	rest = key;
	end = false;
	*dir = tree->root;
	while (name_next_component(&rest, &end, &component)) {
		err = name_from_component(component, last);
		if (err || end)
			return err;
		err = make_dir(tree, *dir, last, dir);
		if (err)
			return err;
	}
	BUG();
}

/* The directory of the last component, or NULL where the cluster has none. */
static struct node *find_parents(struct tree *tree, struct slice key, char last[NAME_MAX + 1])
{
	struct node *dir = tree->root;
	struct slice component;
	bool end = false;

	if (key.len > TREE_KEY_MAX)
		return NULL;
	while (name_next_component(&key, &end, &component)) {
		if (name_from_component(component, last))
			return NULL;
		if (end)
			break;
		dir = tree_find(tree, dir, last, TREE_PRESENT);
		if (!dir || !node_is_dir(dir))
			return NULL;
	}
	return dir;
}

/* The present file called @name in @dir, or the value of the directory called so. */
static struct node *find_file(struct tree *tree, struct node *dir, const char *name)
{
	struct node *node = tree_find(tree, dir, name, TREE_PRESENT);

	if (node && node_is_dir(node))
		return tree_find(tree, node, NAME_VALUE, TREE_PRESENT);
	return node;
}

struct node *tree_node_of_key(struct tree *tree, struct slice key)
{
	char last[NAME_MAX + 1];
	struct node *dir = find_parents(tree, key, last), *file;

	if (!dir)
		return NULL;
	file = find_file(tree, dir, last);
	return file || strcmp(last, NAME_EMPTY) ? file : dir;
}

/* --- metadata --------------------------------------------------------------------- */

static const struct meta *meta_of(struct tree *tree, const struct node *node)
{
	const struct meta *meta = NULL;
	struct slice key;

	if (!tree->metas.count || !tree->defaults.meta)
		return NULL;
	key = node_meta_key(node);
	if (key.data)
		meta = meta_find(&tree->metas, slice_of(key.data + strlen(META_LEAD),
							key.len - strlen(META_LEAD)));
	free((void *)key.data);
	return meta;
}

void tree_refresh(struct tree *tree, struct node *node)
{
	const struct meta *meta = meta_of(tree, node);
	mode_t type = node->attr.mode & S_IFMT;
	struct attr *attr = &node->attr;

	if (meta && meta->revision < node->key.create_revision)
		meta = NULL;
	attr->mode = meta_default_mode(&tree->defaults, type);
	attr->uid = meta && meta->has_uid ? meta->attr.uid : tree->defaults.uid;
	attr->gid = meta && meta->has_gid ? meta->attr.gid : tree->defaults.gid;
	attr->rdev = meta ? meta->attr.rdev : 0;
	if (meta && meta->has_mode)
		attr->mode = type | (meta->attr.mode & 07777);
	attr->times_set = meta && meta->has_times && meta->revision >= node->key.mod_revision;
	if (attr->times_set) {
		attr->atime = meta->attr.atime;
		attr->mtime = meta->attr.mtime;
	}
}

/* What the sidecar says that the file is; a plain file without one. */
static mode_t type_of(struct tree *tree, struct slice key, int64_t create_revision)
{
	char lead[sizeof("file/")] = "file/";
	uint8_t *full;
	struct meta *meta;

	if (!tree->metas.count || !tree->defaults.meta)
		return S_IFREG;
	full = malloc(strlen(lead) + key.len);
	if (!full)
		return S_IFREG;
	memcpy(full, lead, strlen(lead));
	memcpy(full + strlen(lead), key.data, key.len);
	meta = meta_find(&tree->metas, slice_of(full, strlen(lead) + key.len));
	free(full);
	if (!meta || !meta->has_mode || meta->revision < create_revision)
		return S_IFREG;
	switch (meta->attr.mode & S_IFMT) {
	case S_IFLNK: case S_IFIFO: case S_IFSOCK: case S_IFCHR: case S_IFBLK:
		return meta->attr.mode & S_IFMT;
	default:
		return S_IFREG;
	}
}

/* The sidecar of @node is another one now; @own: made from what the node has. */
static void meta_changed(struct tree *tree, struct node *node, struct slice key, bool own)
{
	mode_t type = node->attr.mode & S_IFMT;
	struct uprooted up;

	if (type != S_IFDIR)
		type = type_of(tree, key, node->key.create_revision);
	if (type != (node->attr.mode & S_IFMT)) {
		uproot(tree, node, &up);
		plant(tree, &up, node->parent, node->name, type);
		node = tree_find(tree, node->parent, node->name, TREE_PRESENT);
		if (node)
			tree_refresh(tree, node);
		return;
	}
	if (own)
		return;
	tree_refresh(tree, node);
	node->attr.ctime = tree->now;
	node->touched = true;
	tree_unsettle(tree, node);
}

/* The node whose sidecar @meta_key is; *@key is its own key. */
static struct node *node_of_meta(struct tree *tree, struct slice meta_key, struct slice *key)
{
	size_t lead = slice_has_prefix(meta_key, SLICE_LIT("file/")) ? 5 :
		      slice_has_prefix(meta_key, SLICE_LIT("dir/")) ? 4 : 0;
	char last[NAME_MAX + 1];
	struct node *dir;

	if (!lead)
		return NULL;
	*key = slice_of(meta_key.data + lead, meta_key.len - lead);
	dir = find_parents(tree, *key, last);
	if (!dir)
		return NULL;
	if (lead == 4)
		return strcmp(last, NAME_EMPTY) ? NULL : dir;
	return find_file(tree, dir, last);
}

static int put_meta(struct tree *tree, struct slice meta_key, const struct tree_put *put)
{
	struct meta *meta;
	struct node *node;
	struct slice key;

	if (!meta_key.len)
		return 0;
	meta = meta_find(&tree->metas, meta_key);
	if (meta)
		meta->generation = tree->generation;
	if (meta && meta->revision >= put->version.mod_revision)
		return 0;
	meta = meta_put(&tree->metas, meta_key, put->version.mod_revision, put->value);
	if (!meta)
		return -ENOMEM;
	meta->generation = tree->generation;
	node = node_of_meta(tree, meta_key, &key);
	if (node)
		meta_changed(tree, node, key, node == put->writer);
	return 0;
}

/* --- puts and deletes ------------------------------------------------------------- */

static void put_marker(struct tree *tree, struct node *dir, const struct version *version)
{
	struct node *file = tree_find(tree, dir, NAME_EMPTY, TREE_PRESENT);

	dir->generation = tree->generation;
	if (dir->key.mod_revision > version->mod_revision)
		return;
	if (file && !node_is_dir(file) && file->key.mod_revision < version->mod_revision)
		set_present(tree, file, false);
	dir->key = *version;
	tree_refresh(tree, dir);
}

static void put_file(struct tree *tree, struct node *node, const struct tree_put *put,
		     struct content *content)
{
	bool older = put->version.mod_revision < node->key.mod_revision;
	bool same = put->version.mod_revision == node->key.mod_revision;
	bool other = put->version.create_revision != node->key.create_revision;

	node->generation = tree->generation;
	if (older)
		return;
	node->key = put->version;
	/* whether a sidecar means this file depends on when it was created */
	if (same && other)
		tree_refresh(tree, node);
	if (same || node == put->writer)
		return;
	set_content(node, content);
	if (!put->own) {
		node->attr.mtime = tree->now;
		node->attr.mtime.tv_nsec = put->version.mod_revision % 1000000000;
		node->attr.ctime = node->attr.mtime;
	}
	tree_refresh(tree, node);
	node->changed = true;
	tree_unsettle(tree, node);
}

static int put_value(struct tree *tree, const struct tree_put *put, struct node *dir,
		     const char *name, struct node **out)
{
	mode_t type = type_of(tree, put->key, put->version.create_revision);
	struct content *content;
	struct node *node = tree_find(tree, dir, name, TREE_PRESENT);

	if (!strcmp(name, NAME_EMPTY) && dir->key.mod_revision < put->version.mod_revision) {
		dir->key = (struct version){ 0 };
		tree_refresh(tree, dir);
	}
	if (node && node_is_dir(node)) {
		dir = node;
		name = NAME_VALUE;
	}
	content = content_new(put->value);
	if (!content)
		return -ENOMEM;
	node = make_file(tree, dir, name, type);
	if (node)
		put_file(tree, node, put, content);
	content_put(content);
	*out = node;
	return node ? 0 : -ENOMEM;
}

int tree_put(struct tree *tree, const struct tree_put *put, struct node **out)
{
	struct node *dir = NULL, *node = NULL;
	char last[NAME_MAX + 1];
	struct slice meta_key;
	int err;

	if (tree_key_reserved(put->key, &meta_key)) {
		err = put_meta(tree, meta_key, put);
		goto done;
	}
	err = make_parents(tree, put->key, &dir, last);
	if (err == -ENAMETOOLONG) {
		tree->nameless++;
		err = 0;
		goto done;
	}
	if (err)
		goto done;
	node = dir;
	if (strcmp(last, NAME_EMPTY) || put->value.len)
		err = put_value(tree, put, dir, last, &node);
	else
		put_marker(tree, dir, &put->version);
done:
	if (out)
		*out = err ? NULL : node;
	return err;
}

void tree_delete(struct tree *tree, struct slice key, int64_t revision)
{
	char last[NAME_MAX + 1];
	struct slice meta_key, own_key;
	struct node *dir, *node;

	if (tree_key_reserved(key, &meta_key)) {
		if (!meta_delete(&tree->metas, meta_key, revision))
			return;
		node = node_of_meta(tree, meta_key, &own_key);
		if (node)
			meta_changed(tree, node, own_key, false);
		return;
	}
	dir = find_parents(tree, key, last);
	if (!dir)
		return;
	node = find_file(tree, dir, last);
	if (node && node->key.mod_revision <= revision) {
		/* .value is in the directory that it is the value of */
		dir = node->parent;
		set_present(tree, node, false);
	}
	if (!strcmp(last, NAME_EMPTY) && dir->key.mod_revision &&
	    dir->key.mod_revision <= revision) {
		dir->key = (struct version){ 0 };
		tree_refresh(tree, dir);
	}
	tree_check_dir(tree, dir);
}

/* --- after a load ----------------------------------------------------------------- */

static void sweep_metas(struct tree *tree, int64_t revision)
{
	struct slice key = slice_of(NULL, 0);

	for (size_t i = 0; i <= tree->metas.mask; i++) {
		struct table_link *link = tree->metas.buckets[i], *next;

		for (; link; link = next) {
			struct meta *meta = container_of(link, struct meta, link);
			struct node *node;

			next = link->next;
			if (meta->generation == tree->generation || meta->revision > revision)
				continue;
			table_del(&tree->metas, link);
			node = node_of_meta(tree, slice_of(meta->key, meta->len), &key);
			if (node)
				meta_changed(tree, node, key, false);
			free(meta);
		}
	}
}

static void sweep_node(struct tree *tree, struct node *node, int64_t revision)
{
	if (!node->present || node->generation == tree->generation ||
	    node->key.mod_revision > revision)
		return;
	if (node_is_dir(node)) {
		node->key = (struct version){ 0 };
		tree_check_dir(tree, node);
		return;
	}
	set_present(tree, node, false);
	tree_check_dir(tree, node->parent);
}

/* Sweeping can make nodes, so the nodes to look at are gathered before. */
int tree_sweep(struct tree *tree, int64_t revision)
{
	struct node **nodes;
	size_t n = 0;

	sweep_metas(tree, revision);
	nodes = calloc(tree->by_ino.count, sizeof(struct node *));
	if (!nodes)
		return -ENOMEM;
	for (size_t i = 0; i <= tree->by_ino.mask; i++) {
		struct table_link *link = tree->by_ino.buckets[i];

		for (; link; link = link->next)
			nodes[n++] = node_get(container_of(link, struct node, by_ino));
	}
	for (size_t i = 0; i < n; i++) {
		sweep_node(tree, nodes[i], revision);
		node_put(tree, nodes[i]);
	}
	free(nodes);
	return 0;
}
