/* SPDX-License-Identifier: Apache-2.0 */
/* Doubly linked lists whose nodes live inside their elements. */
#ifndef LIST_H
#define LIST_H

#include <stdbool.h>

#include "bug.h"

struct list {
	struct list *next, *prev;
};

#define LIST_INIT(name) { &(name), &(name) }

static inline void list_init(struct list *head)
{
	head->next = head;
	head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_insert_(struct list *node, struct list *prev, struct list *next)
{
	next->prev = node;
	node->next = next;
	node->prev = prev;
	prev->next = node;
}

/* Adds @node at the front of @head. */
static inline void list_add(struct list *head, struct list *node)
{
	list_insert_(node, head, head->next);
}

/* Adds @node at the end of @head. */
static inline void list_add_tail(struct list *head, struct list *node)
{
	list_insert_(node, head->prev, head);
}

/* Takes @node out; it is left as an empty list, so deleting twice is harmless. */
static inline void list_del(struct list *node)
{
	node->next->prev = node->prev;
	node->prev->next = node->next;
	list_init(node);
}

/* Moves all of @from to the end of @to; @from is left empty. */
static inline void list_splice_tail(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)

#define list_first(head, type, member) list_entry((head)->next, type, member)

#define list_for_each(pos, head, member)					\
	for (pos = list_entry((head)->next, __typeof__(*pos), member);		\
	     &pos->member != (head);						\
	     pos = list_entry(pos->member.next, __typeof__(*pos), member))

/* The same, where the body may take @pos out of the list or free it. */
#define list_for_each_safe(pos, tmp, head, member)				\
	for (pos = list_entry((head)->next, __typeof__(*pos), member),		\
	     tmp = list_entry(pos->member.next, __typeof__(*pos), member);	\
	     &pos->member != (head);						\
	     pos = tmp, tmp = list_entry(tmp->member.next, __typeof__(*tmp), member))

#endif
