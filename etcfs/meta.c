// SPDX-License-Identifier: Apache-2.0
#include "etcfs/meta.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "etcfs/tree.h"

mode_t meta_default_mode(const struct attr_defaults *defaults, mode_t type)
{
	if (type == S_IFLNK)
		return S_IFLNK | 0777;
	return type | ((type == S_IFDIR ? 0777 : 0666) & ~defaults->umask);
}

static bool parse_time(const char *word, struct timespec *out)
{
	long long sec;
	long nsec;

	if (sscanf(word, "%lld.%9ld", &sec, &nsec) != 2 || nsec < 0)
		return false;
	*out = (struct timespec){ .tv_sec = sec, .tv_nsec = nsec };
	return true;
}

static void parse_word(struct meta *meta, const char *word)
{
	unsigned a, b;

	if (sscanf(word, "mode=%o", &a) == 1) {
		meta->attr.mode = a & (S_IFMT | 07777);
		meta->has_mode = true;
	} else if (sscanf(word, "uid=%u", &a) == 1) {
		meta->attr.uid = a;
		meta->has_uid = true;
	} else if (sscanf(word, "gid=%u", &a) == 1) {
		meta->attr.gid = a;
		meta->has_gid = true;
	} else if (!strncmp(word, "atime=", 6)) {
		parse_time(word + 6, &meta->attr.atime);
	} else if (!strncmp(word, "mtime=", 6)) {
		meta->has_times = parse_time(word + 6, &meta->attr.mtime);
	} else if (sscanf(word, "rdev=%u:%u", &a, &b) == 2) {
		meta->attr.rdev = makedev(a, b);
	}
}

void meta_parse(struct meta *meta, struct slice text)
{
	char word[META_TEXT_MAX];
	size_t n = 0;

	for (size_t i = 0; i <= text.len; i++) {
		char c = i < text.len ? (char)text.data[i] : ' ';

		if (c != ' ' && c != '\n') {
			if (n < sizeof(word) - 1)
				word[n++] = c;
			continue;
		}
		word[n] = '\0';
		n = 0;
		parse_word(meta, word);
	}
	if (meta->has_times && !meta->attr.atime.tv_sec && !meta->attr.atime.tv_nsec)
		meta->attr.atime = meta->attr.mtime;
}

static size_t put_word(char *text, size_t n, const char *word)
{
	return n + (size_t)snprintf(text + n, META_TEXT_MAX - n, "%s%s", n ? " " : "", word);
}

size_t meta_text(const struct attr *attr, const struct attr_defaults *defaults,
		 char text[META_TEXT_MAX])
{
	char word[META_TEXT_MAX];
	size_t n = 0;

	text[0] = '\0';
	if (attr->mode != meta_default_mode(defaults, attr->mode & S_IFMT) ||
	    (!S_ISREG(attr->mode) && !S_ISDIR(attr->mode))) {
		snprintf(word, sizeof(word), "mode=%o", attr->mode);
		n = put_word(text, n, word);
	}
	if (attr->uid != defaults->uid) {
		snprintf(word, sizeof(word), "uid=%u", attr->uid);
		n = put_word(text, n, word);
	}
	if (attr->gid != defaults->gid) {
		snprintf(word, sizeof(word), "gid=%u", attr->gid);
		n = put_word(text, n, word);
	}
	if (attr->times_set) {
		snprintf(word, sizeof(word), "atime=%lld.%09ld mtime=%lld.%09ld",
			 (long long)attr->atime.tv_sec, attr->atime.tv_nsec,
			 (long long)attr->mtime.tv_sec, attr->mtime.tv_nsec);
		n = put_word(text, n, word);
	}
	if (S_ISCHR(attr->mode) || S_ISBLK(attr->mode)) {
		snprintf(word, sizeof(word), "rdev=%u:%u", major(attr->rdev), minor(attr->rdev));
		n = put_word(text, n, word);
	}
	BUG_ON(n >= META_TEXT_MAX);
	return n;
}

struct meta *meta_find(const struct table *metas, struct slice key)
{
	struct table_link *link = table_first(metas, table_hash(0, key));

	for (; link; link = table_next(link)) {
		struct meta *meta = container_of(link, struct meta, link);

		if (slice_eq(slice_of(meta->key, meta->len), key))
			return meta;
	}
	return NULL;
}

struct meta *meta_put(struct table *metas, struct slice key, int64_t revision, struct slice text)
{
	struct meta *meta = meta_find(metas, key);

	if (meta && meta->revision >= revision)
		return meta;
	if (!meta) {
		meta = calloc(1, sizeof(*meta) + key.len);
		if (!meta)
			return NULL;
		meta->len = key.len;
		memcpy(meta->key, key.data, key.len);
		table_add(metas, &meta->link, table_hash(0, key));
	}
	meta->revision = revision;
	meta->has_mode = meta->has_uid = meta->has_gid = meta->has_times = false;
	meta->attr = (struct attr){ 0 };
	meta_parse(meta, text);
	return meta;
}

bool meta_delete(struct table *metas, struct slice key, int64_t revision)
{
	struct meta *meta = meta_find(metas, key);

	if (!meta || meta->revision > revision)
		return false;
	table_del(metas, &meta->link);
	free(meta);
	return true;
}

void meta_release(struct table *metas)
{
	for (size_t i = 0; metas->buckets && i <= metas->mask; i++) {
		struct table_link *link = metas->buckets[i], *next;

		for (; link; link = next) {
			next = link->next;
			free(container_of(link, struct meta, link));
		}
	}
	table_release(metas);
}
