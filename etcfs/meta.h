/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata. The bytes of a value are the bytes of the file, always; mode, owner,
 * times and the type of what is neither file nor directory are in a sidecar key:
 *
 *	<prefix>.etcfs/meta/file/<key>		of a file, link, fifo, socket, device
 *	<prefix>.etcfs/meta/dir/<key>/		of a directory
 *
 * It is written in the transaction that writes the value, and only where something
 * differs from the default. Its value is text, words with a value each, any of which
 * may be missing; unknown ones are skipped:
 *
 *	mode=100640 uid=1000 gid=1000 atime=1767225600.000000000 mtime=... rdev=8:1
 *
 * mode is octal and has the type in it. A sidecar is older than its file, and without
 * meaning, where its mod_revision is below the file's create_revision; its times are
 * without meaning where it is below the file's mod_revision: somebody who does not
 * know about sidecars has written the file since.
 */
#ifndef ETCFS_META_H
#define ETCFS_META_H

#include <sys/stat.h>
#include <time.h>

#include "etcfs/table.h"
#include "include/slice.h"

/* The name in the root that is not shown; everything below it is etcfs's own. */
#define TREE_RESERVED ".etcfs"
#define META_LEAD TREE_RESERVED "/meta/"
#define META_FILE META_LEAD "file/"
#define META_DIR META_LEAD "dir/"
#define META_TEXT_MAX 160

struct attr {
	mode_t mode;		/* with the type */
	uid_t uid;
	gid_t gid;
	dev_t rdev;
	struct timespec atime, mtime, ctime;
	bool times_set;		/* by utimensat(): they are worth keeping */
};

struct attr_defaults {
	uid_t uid;
	gid_t gid;
	mode_t umask;
	bool meta;		/* sidecars are read and written */
};

struct meta {
	struct table_link link;
	int64_t revision;
	uint64_t generation;	/* of the last load that saw it */
	bool has_mode, has_uid, has_gid, has_times;
	struct attr attr;
	size_t len;
	char key[];		/* "file/..." or "dir/..." */
};

mode_t meta_default_mode(const struct attr_defaults *defaults, mode_t type);
/* Words that make no sense are skipped. */
void meta_parse(struct meta *meta, struct slice text);
/* The text, "" where all is default; returns its length. */
size_t meta_text(const struct attr *attr, const struct attr_defaults *defaults,
		 char text[META_TEXT_MAX]);

/* The table of sidecars. */
struct meta *meta_find(const struct table *metas, struct slice key);
/* @text older than what is there is ignored. The meta, or NULL: no memory. */
struct meta *meta_put(struct table *metas, struct slice key, int64_t revision, struct slice text);
/* Whether there was one that is not newer. */
bool meta_delete(struct table *metas, struct slice key, int64_t revision);
void meta_release(struct table *metas);

#endif
