/* SPDX-License-Identifier: Apache-2.0 */
/* The methods of a server by path. */
#include <errno.h>
#include <stdlib.h>

#include "include/endian_bytes.h"
#include "lib/grpc_server_i.h"

/* The end of a path and its length tell the methods of a service apart. */
static size_t path_hash(struct slice path)
{
	uint64_t tail = 0;

	if (path.len >= 8)
		tail = get_le64(path.data + path.len - 8);
	tail = (tail ^ path.len) * UINT64_C(0x9e3779b97f4a7c15);
	return (size_t)(tail >> 32);
}

static struct method_entry *find_slot(const struct method_table *table, struct slice path)
{
	size_t at = path_hash(path) & table->mask;

	while (table->entries[at].method && !slice_eq(table->entries[at].path, path))
		at = (at + 1) & table->mask;
	return &table->entries[at];
}

int method_table_init(struct method_table *table, const struct grpc_method *methods)
{
	size_t n = 0, size = 16;

	while (methods[n].path)
		n++;
	while (size < 2 * n)
		size *= 2;
	table->entries = calloc(size, sizeof(*table->entries));
	table->handled = calloc(n + 1, sizeof(*table->handled));
	if (!table->entries || !table->handled) {
		method_table_release(table);
		return -ENOMEM;
	}
	table->mask = size - 1;
	for (size_t i = 0; i < n; i++) {
		struct slice path = slice_str(methods[i].path);

		*find_slot(table, path) = (struct method_entry){ path, &methods[i] };
	}
	return 0;
}

void method_table_release(struct method_table *table)
{
	free(table->entries);
	free(table->handled);
	table->entries = NULL;
	table->handled = NULL;
}

const struct grpc_method *method_table_find(const struct method_table *table, struct slice path)
{
	return find_slot(table, path)->method;
}

bool method_table_has_service(const struct method_table *table, struct slice service)
{
	for (size_t i = 0; i <= table->mask; i++) {
		struct slice path = table->entries[i].path;

		if (path.len > service.len + 2 && path.data[service.len + 1] == '/' &&
		    slice_has_prefix(slice_of(path.data + 1, path.len - 1), service))
			return true;
	}
	return false;
}
