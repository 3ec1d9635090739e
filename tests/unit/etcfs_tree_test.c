// SPDX-License-Identifier: Apache-2.0
/*
 * The tree of etcfs without FUSE: a script of changes in the cluster, and after each
 * what the tree holds. Visible follows present at once here (settle()).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "etcfs/name.h"
#include "etcfs/tree.h"

static const struct attr_defaults defaults = { .uid = 7, .gid = 8, .umask = 022, .meta = true };

/* --- names ---------------------------------------------------------------------- */

#define BYTES(s) { (const uint8_t *)(s), sizeof(s) - 1 }

static const struct {
	struct slice component;
	const char *name;
} names[] = {
	{ BYTES("a"), "a" },
	{ BYTES(""), "%_" },
	{ BYTES("."), "%2E" },
	{ BYTES(".."), "%2E%2E" },
	{ BYTES("..."), "..." },
	{ BYTES(".value"), "%2Evalue" },
	{ BYTES("%2Evalue"), "%252Evalue" },
	{ BYTES("a\0b"), "a%00b" },
	{ BYTES("\0"), "%00" },
	{ BYTES("%00"), "%2500" },
	{ BYTES("%2500"), "%252500" },
	{ BYTES("x%00y"), "x%2500y" },
	{ BYTES("%\0"), "%%00" },
	{ BYTES("%_"), "%25_" },
	{ BYTES("%25_"), "%2525_" },
	{ BYTES("%2E"), "%252E" },
	{ BYTES("%2E%2E"), "%252E%2E" },
	{ BYTES("%252E"), "%25252E" },
	{ BYTES("a%20b"), "a%20b" },
	{ BYTES("%"), "%" },
	{ BYTES("%25"), "%25" },
	{ BYTES("100%_done"), "100%_done" },
	{ BYTES("\xff\xfe"), "\xff\xfe" },
	{ BYTES("a\nb"), "a\nb" },
};

static void names_are_a_bijection(void **state)
{
	uint8_t component[NAME_MAX];
	char name[NAME_MAX + 1];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		size_t n;

		assert_int_equal(name_from_component(names[i].component, name), 0);
		assert_string_equal(name, names[i].name);
		n = name_to_component(names[i].name, component);
		assert_true(slice_eq(slice_of(component, n), names[i].component));
	}
}

/* Every string over the letters that matter, up to a length, there and back. */
static void every_name_comes_back(void **state)
{
	static const char letters[] = "%250_E.";
	uint8_t component[NAME_MAX];
	char name[9], again[NAME_MAX + 1];

	for (unsigned long i = 0; i < 8ul * 8 * 8 * 8 * 8 * 8; i++) {
		size_t len = 0;

		for (unsigned long rest = i; rest; rest /= 8)
			if (rest % 8)
				name[len++] = letters[rest % 8 - 1];
		name[len] = '\0';
		if (!len || !strcmp(name, ".") || !strcmp(name, ".."))
			continue;
		len = name_to_component(name, component);
		assert_int_equal(name_from_component(slice_of(component, len), again), 0);
		assert_string_equal(again, name);
	}
}

static void long_names_are_refused(void **state)
{
	uint8_t component[NAME_MAX + 1];
	char name[NAME_MAX + 1];

	memset(component, 'a', sizeof(component));
	assert_int_equal(name_from_component(slice_of(component, NAME_MAX), name), 0);
	assert_int_equal(name_from_component(slice_of(component, NAME_MAX + 1), name),
			 -ENAMETOOLONG);
	component[3] = '\0';
	assert_int_equal(name_from_component(slice_of(component, NAME_MAX - 2), name), 0);
	assert_int_equal(name_from_component(slice_of(component, NAME_MAX - 1), name),
			 -ENAMETOOLONG);
}

/* --- the tree --------------------------------------------------------------------- */

static void settle(struct tree *tree)
{
	struct node *node;

	while ((node = tree_next_unsettled(tree))) {
		if (node->visible && !node->present && !node->fresh && node->parent) {
			bool held = false;
			struct node *child;

			list_for_each(child, &node->children, sibling)
				held |= child->visible;
			if (!held)
				tree_hide(tree, node);
		} else if (!node->visible && node->present && node->parent->visible &&
			   !tree_find(tree, node->parent, node->name, TREE_VISIBLE)) {
			tree_show(tree, node);
		} else if (!node->visible && !node->present && node->parent) {
			tree_hide(tree, node);
		}
		node_put(tree, node);
	}
}

static void put(struct tree *tree, const char *key, int64_t revision, const char *value)
{
	struct tree_put p = { .key = slice_str(key), .value = slice_str(value),
			      .version = { revision, revision, 1, 0 } };
	struct node *node;

	node = tree_node_of_key(tree, p.key);
	if (node && node->key.mod_revision)
		p.version.create_revision = node->key.create_revision;
	assert_int_equal(tree_put(tree, &p, NULL), 0);
}

/* "a=1 d/ d/b=2": files with their values, directories with a slash, by path. */
static void print(const struct node *dir, char *out, size_t size)
{
	const struct node *node;

	list_for_each(node, &dir->children, sibling) {
		char *path = node_path(node);
		size_t n = strlen(out);

		assert_true(node->visible == node->present);
		snprintf(out + n, size - n, "%s%s%s", n ? " " : "", path,
			 node_is_dir(node) ? (node->key.mod_revision ? "/!" : "/") : "=");
		n = strlen(out);
		if (node_is_dir(node))
			print(node, out, size);
		else
			snprintf(out + n, size - n, "%.*s%s", (int)node->content->len,
				 (const char *)node->content->data,
				 S_ISLNK(node->attr.mode) ? "@" : "");
		free(path);
	}
}

/* '+' puts, '-' deletes; what the tree shows after it. "/!" has a marker. */
static const struct step {
	char op;
	const char *key;
	int64_t revision;
	const char *value;
	const char *shows;
} steps[] = {
	{ '+', "a", 2, "1", "a=1" },
	{ '+', "a", 3, "22", "a=22" },
	{ '+', "a", 3, "again", "a=22" },
	{ '+', "a", 2, "older", "a=22" },
	{ '-', "a", 2, NULL, "a=22" },
	/* an implied directory lives as long as what is in it */
	{ '+', "d/x/y", 4, "3", "a=22 d/ d/x/ d/x/y=3" },
	{ '-', "d/x/y", 5, NULL, "a=22" },
	/* the marker keeps it */
	{ '+', "d/", 6, "", "a=22 d/!" },
	{ '+', "d/f", 7, "4", "a=22 d/! d/f=4" },
	{ '-', "d/f", 8, NULL, "a=22 d/!" },
	{ '-', "d/", 9, NULL, "a=22" },
	/* a key that becomes a directory, and back */
	{ '+', "a/b", 10, "5", "a/ a/.value=22 a/b=5" },
	{ '+', "a", 11, "23", "a/ a/.value=23 a/b=5" },
	{ '+', "a/.value", 12, "6", "a/ a/.value=23 a/b=5 a/%2Evalue=6" },
	{ '-', "a/.value", 13, NULL, "a/ a/.value=23 a/b=5" },
	{ '-', "a/b", 14, NULL, "a=23" },
	{ '+', "a/b", 15, "7", "a/ a/.value=23 a/b=7" },
	{ '-', "a", 16, NULL, "a/ a/b=7" },
	{ '-', "a/b", 17, NULL, "" },
	/* a trailing slash with a value is a file, without one a marker */
	{ '+', "e/", 18, "8", "e/ e/%_=8" },
	{ '+', "e/", 19, "", "e/!" },
	{ '+', "e/", 20, "9", "e/ e/%_=9" },
	{ '+', "e//z", 21, "10", "e/ e/%_/ e/%_/.value=9 e/%_/z=10" },
	{ '-', "e/", 22, NULL, "e/ e/%_/ e/%_/z=10" },
	{ '-', "e//z", 23, NULL, "" },
	/* the root's own */
	{ '+', "", 24, "", "" },
	{ '+', "", 25, "11", "%_=11" },
	{ '+', "/r", 26, "12", "%_/ %_/.value=11 %_/r=12" },
	{ '-', "", 27, NULL, "%_/ %_/r=12" },
	{ '-', "/r", 28, NULL, "" },
	/* odd components */
	{ '+', "../.", 29, "13", "%2E%2E/ %2E%2E/%2E=13" },
	{ '-', "../.", 30, NULL, "" },
	/* what is reserved is not shown */
	{ '+', ".etcfs", 31, "x", "" },
	{ '+', ".etcfs/other", 32, "x", "" },
	/* a sidecar makes a link of a file, whichever comes first */
	{ '+', "l", 33, "to", "l=to" },
	{ '+', ".etcfs/meta/file/l", 33, "mode=120777", "l=to@" },
	{ '-', "l", 34, NULL, "" },
	{ '+', "l", 35, "plain", "l=plain" },
	{ '+', ".etcfs/meta/file/l", 36, "mode=120777", "l=plain@" },
	{ '-', ".etcfs/meta/file/l", 37, NULL, "l=plain" },
	{ '-', "l", 38, NULL, "" },
	{ '+', ".etcfs/meta/file/m", 39, "mode=120777", "" },
	{ '+', "m", 39, "n", "m=n@" },
	{ '-', "m", 40, NULL, "" },
};

static void changes_in_the_cluster_make_the_tree(void **state)
{
	struct tree tree;
	char shown[1024];

	assert_int_equal(tree_init(&tree, &defaults), 0);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		const struct step *s = &steps[i];

		if (s->op == '+')
			put(&tree, s->key, s->revision, s->value);
		else
			tree_delete(&tree, slice_str(s->key), s->revision);
		settle(&tree);
		shown[0] = '\0';
		print(tree.root, shown, sizeof(shown));
		assert_string_equal(shown, s->shows);
	}
	tree_release(&tree);
}

static void a_key_leads_to_its_node_and_back(void **state)
{
	static const char *const keys[] = {
		"a", "a/b", "d/", "d//", "/x", "//y", "e\\f/g h", "../.", "%_/%2E",
	};
	struct tree tree;

	assert_int_equal(tree_init(&tree, &defaults), 0);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		put(&tree, keys[i], 2 + (int64_t)i, keys[i][strlen(keys[i]) - 1] == '/' ? "" : "v");
	settle(&tree);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		struct node *node = tree_node_of_key(&tree, slice_str(keys[i]));
		struct slice key;

		assert_non_null(node);
		key = node_key(node, "p/");
		assert_true(slice_has_prefix(key, SLICE_LIT("p/")));
		assert_true(slice_eq(slice_of(key.data + 2, key.len - 2), slice_str(keys[i])));
		free((void *)key.data);
	}
	tree_release(&tree);
}

static void a_sidecar_says_mode_owner_and_times(void **state)
{
	struct tree tree;
	struct node *node;
	char text[META_TEXT_MAX];

	assert_int_equal(tree_init(&tree, &defaults), 0);
	tree.now.tv_sec = 1000;
	put(&tree, "f", 5, "v");
	node = tree_node_of_key(&tree, slice_str("f"));
	assert_int_equal(node->attr.mode, S_IFREG | 0644);
	assert_int_equal(node->attr.uid, 7);
	assert_int_equal(node->attr.mtime.tv_sec, 1000);
	assert_int_equal(node->attr.mtime.tv_nsec, 5);
	assert_int_equal(meta_text(&node->attr, &defaults, text), 0);

	put(&tree, ".etcfs/meta/file/f", 6,
	    "mode=100600 uid=1 gid=2 atime=3.000000004 mtime=5.000000006 unknown=1");
	assert_int_equal(node->attr.mode, S_IFREG | 0600);
	assert_int_equal(node->attr.uid, 1);
	assert_int_equal(node->attr.gid, 2);
	assert_int_equal(node->attr.mtime.tv_sec, 5);
	assert_int_equal(node->attr.mtime.tv_nsec, 6);
	meta_text(&node->attr, &defaults, text);
	assert_string_equal(text, "mode=100600 uid=1 gid=2 atime=3.000000004 mtime=5.000000006");

	/* written since by somebody who knows nothing of sidecars: the times are void */
	put(&tree, "f", 7, "w");
	assert_int_equal(node->attr.mode, S_IFREG | 0600);
	assert_int_equal(node->attr.mtime.tv_sec, 1000);
	/* another file of the same name has nothing to do with it */
	tree_delete(&tree, slice_str("f"), 8);
	settle(&tree);
	put(&tree, "f", 9, "x");
	node = tree_node_of_key(&tree, slice_str("f"));
	assert_int_equal(node->attr.mode, S_IFREG | 0644);
	tree_release(&tree);
}

/* A change from elsewhere is not visible until it is shown, and one that is undone
 * before that never was. */
static void the_visible_follows_the_present(void **state)
{
	struct tree tree;
	struct node *node, *dir;

	assert_int_equal(tree_init(&tree, &defaults), 0);
	put(&tree, "d/f", 2, "1");
	assert_null(tree_find(&tree, tree.root, "d", TREE_VISIBLE));
	dir = tree_find(&tree, tree.root, "d", TREE_PRESENT);
	tree_show(&tree, dir);
	assert_null(tree_find(&tree, dir, "f", TREE_VISIBLE));
	settle(&tree);
	node = tree_find(&tree, dir, "f", TREE_VISIBLE);
	assert_non_null(node);

	/* deleted and made again before anybody was told: changed, and the same node */
	tree_delete(&tree, slice_str("d/f"), 3);
	assert_ptr_equal(tree_find(&tree, dir, "f", TREE_VISIBLE), node);
	put(&tree, "d/f", 4, "2");
	assert_ptr_equal(tree_find(&tree, dir, "f", TREE_PRESENT), node);
	assert_true(node->changed);
	settle(&tree);
	tree_release(&tree);
}

static void a_load_takes_away_what_it_did_not_see(void **state)
{
	struct tree tree;
	char shown[256] = "";

	assert_int_equal(tree_init(&tree, &defaults), 0);
	put(&tree, "a", 2, "1");
	put(&tree, "b/c", 3, "2");
	put(&tree, "d/", 4, "");
	put(&tree, "e", 5, "3");
	put(&tree, ".etcfs/meta/file/e", 6, "mode=100600");
	settle(&tree);
	tree.generation++;
	put(&tree, "a", 2, "1");
	put(&tree, "e", 5, "3");
	put(&tree, "new", 12, "4");
	assert_int_equal(tree_sweep(&tree, 10), 0);
	settle(&tree);
	print(tree.root, shown, sizeof(shown));
	assert_string_equal(shown, "a=1 e=3 new=4");
	assert_int_equal(tree_node_of_key(&tree, slice_str("e"))->attr.mode, S_IFREG | 0644);
	tree_release(&tree);
}

/* A directory moves with what is below it; the one it left is no longer kept. */
static void a_directory_moves_with_its_children(void **state)
{
	struct tree tree;
	struct node *from, *to;
	char shown[256] = "";

	assert_int_equal(tree_init(&tree, &defaults), 0);
	put(&tree, "x/d/f", 2, "1");
	put(&tree, "y/", 3, "");
	settle(&tree);
	to = tree_find(&tree, tree.root, "y", TREE_VISIBLE);
	from = tree_find(&tree, tree.root, "x", TREE_VISIBLE);
	assert_int_equal(tree_move(&tree, tree_find(&tree, from, "d", TREE_VISIBLE), to, "e"), 0);
	settle(&tree);
	print(tree.root, shown, sizeof(shown));
	assert_string_equal(shown, "y/! y/e/ y/e/f=1");
	assert_int_equal(to->n_dirs, 1);
	tree_release(&tree);
}

static void a_key_that_no_path_leads_to_is_not_shown(void **state)
{
	char key[TREE_KEY_MAX + 2];
	struct tree tree;

	assert_int_equal(tree_init(&tree, &defaults), 0);
	memset(key, '/', sizeof(key));
	key[TREE_KEY_MAX + 1] = '\0';
	put(&tree, key, 2, "x");
	assert_int_equal(tree.nameless, 1);
	assert_true(list_empty(&tree.root->children));
	tree_delete(&tree, slice_str(key), 3);
	key[TREE_KEY_MAX] = '\0';
	put(&tree, key, 4, "x");
	assert_int_equal(tree.nameless, 1);
	assert_false(list_empty(&tree.root->children));
	tree_release(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_a_bijection),
		cmocka_unit_test(every_name_comes_back),
		cmocka_unit_test(long_names_are_refused),
		cmocka_unit_test(changes_in_the_cluster_make_the_tree),
		cmocka_unit_test(a_key_leads_to_its_node_and_back),
		cmocka_unit_test(a_sidecar_says_mode_owner_and_times),
		cmocka_unit_test(the_visible_follows_the_present),
		cmocka_unit_test(a_load_takes_away_what_it_did_not_see),
		cmocka_unit_test(a_directory_moves_with_its_children),
		cmocka_unit_test(a_key_that_no_path_leads_to_is_not_shown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
