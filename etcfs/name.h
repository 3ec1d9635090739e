/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names. A key below the prefix is divided at its slashes into components; each
 * component is shown under one name, and each name stands for one component. The
 * bytes are the same but for what a file name cannot be:
 *
 *	component		name
 *	(empty)			%_
 *	.			%2E
 *	..			%2E%2E
 *	.value			%2Evalue	(.value itself is a directory's own key)
 *	a NUL byte in it	%00
 *
 * A component that looks like one of these has its percent sign written as %25, and
 * so has one that looks like that, and so on; every other percent sign stays. So the
 * two are a bijection: a%20b is the same in both.
 */
#ifndef ETCFS_NAME_H
#define ETCFS_NAME_H

#include <limits.h>

#include "include/slice.h"

/* The name of a directory's own value: the key that is a file and a directory. */
#define NAME_VALUE ".value"
/* The name that stands for an empty component. */
#define NAME_EMPTY "%_"

/* Writes the name, terminated by NUL. -ENAMETOOLONG beyond NAME_MAX bytes. */
int name_from_component(struct slice component, char name[NAME_MAX + 1]);
/* The component that @name stands for; never longer than it. @name is not NAME_VALUE. */
size_t name_to_component(const char *name, uint8_t component[NAME_MAX]);

/* Takes the first component off @rest; false where none is left. An empty @rest
 * that was not yet taken from has one, the empty one: start with *end false. */
bool name_next_component(struct slice *rest, bool *end, struct slice *component);

#endif
