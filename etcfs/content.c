// SPDX-License-Identifier: Apache-2.0
#include "etcfs/content.h"

#include <errno.h>
#include <stdlib.h>

#include "include/bug.h"

struct content *content_new(struct slice bytes)
{
	struct content *content = calloc(1, sizeof(*content));

	if (!content)
		return NULL;
	content->refs = 1;
	if (content_write(content, 0, bytes)) {
		free(content);
		return NULL;
	}
	return content;
}

struct content *content_get(struct content *content)
{
	content->refs++;
	return content;
}

void content_put(struct content *content)
{
	if (!content || --content->refs)
		return;
	free(content->data);
	free(content);
}

/* Room grows by half, so that a file written in small pieces is not copied each time. */
static int reserve(struct content *content, size_t len)
{
	size_t capacity = MAX(len, MIN(content->capacity + content->capacity / 2, len * 2));
	uint8_t *data;

	if (len <= content->capacity)
		return 0;
	data = realloc(content->data, capacity);
	if (!data)
		return -ENOMEM;
	content->data = data;
	content->capacity = capacity;
	return 0;
}

int content_resize(struct content *content, size_t len)
{
	int err = reserve(content, len);

	if (err)
		return err;
	if (len > content->len)
		memset(content->data + content->len, 0, len - content->len);
	content->len = len;
	return 0;
}

int content_write(struct content *content, size_t offset, struct slice bytes)
{
	int err;

	if (!bytes.len)
		return 0;
	if (offset + bytes.len > content->len) {
		err = content_resize(content, offset + bytes.len);
		if (err)
			return err;
	}
	memcpy(content->data + offset, bytes.data, bytes.len);
	return 0;
}
