/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a file as this host sees them. One content is shared by a file and
 * by the handles that read it: a local write changes it in place, so that every
 * handle sees it at once; a change from elsewhere gives the file a new content and
 * leaves the old one to the readers that are in the middle of it.
 */
#ifndef ETCFS_CONTENT_H
#define ETCFS_CONTENT_H

#include "include/slice.h"

struct content {
	unsigned refs;
	size_t len, capacity;
	uint8_t *data;
};

/* One reference, a copy of @bytes; NULL when memory is short. */
struct content *content_new(struct slice bytes);
struct content *content_get(struct content *content);
void content_put(struct content *content);	/* NULL is fine */

/* New bytes are zero. -ENOMEM leaves it as it was. */
int content_resize(struct content *content, size_t len);
int content_write(struct content *content, size_t offset, struct slice bytes);

static inline struct slice content_slice(const struct content *content)
{
	return slice_of(content->data, content->len);
}

#endif
