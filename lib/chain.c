/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains: see chain.h. A piece either owns its bytes, which follow it in the same
 * allocation and leave room to append, or refers to those of a blob.
 *
 * What moves from one chain to another moves by pointer when it is long and by copy
 * when it is short, so that a hundred short answers leave as one iovec.
 */
#include "lib/chain.h"

#include "lib/pool_i.h"

/* Pieces grow with their chain between these sizes, allocation included. */
#define PIECE_MIN 512
#define PIECE_MAX 16384

struct piece {
	struct list node;
	struct blob *blob;	/* NULL where the bytes are the piece's own */
	uint8_t *data;
	size_t len;
	size_t room;		/* bytes free after data + len; 0 with a blob */
	size_t size;		/* of the allocation */
	uint8_t own[];
};

static struct piece *first_piece(const struct chain *chain)
{
	return list_first(&chain->pieces, struct piece, node);
}

static struct piece *last_piece(const struct chain *chain)
{
	return list_entry(chain->pieces.prev, struct piece, node);
}

static void piece_free(struct piece *piece)
{
	list_del(&piece->node);
	blob_put(piece->blob);
	pool_free(piece, piece->size);
}

void chain_init(struct chain *chain)
{
	list_init(&chain->pieces);
	chain->len = 0;
	chain->failed = false;
}

void chain_release(struct chain *chain)
{
	while (!list_empty(&chain->pieces))
		piece_free(first_piece(chain));
	chain_init(chain);
}

/* A new last piece with room for @n bytes of its own, or NULL and a failed chain. */
static struct piece *add_own(struct chain *chain, size_t n)
{
	size_t grown = MIN(MAX(2 * chain->len, (size_t)PIECE_MIN), (size_t)PIECE_MAX);
	size_t size = pool_round(MAX(grown, sizeof(struct piece) + n));
	struct piece *piece;

	BUG_ON(n > SIZE_MAX / 2);
	piece = pool_alloc(size);
	if (!piece) {
		chain->failed = true;
		return NULL;
	}
	piece->blob = NULL;
	piece->data = piece->own;
	piece->len = 0;
	piece->room = size - sizeof(*piece);
	piece->size = size;
	list_add_tail(&chain->pieces, &piece->node);
	return piece;
}

static void add_blob(struct chain *chain, struct blob *blob, struct slice s)
{
	struct piece *piece = pool_alloc(sizeof(*piece));

	if (!piece) {
		chain->failed = true;
		return;
	}
	piece->blob = blob_get(blob);
	piece->data = (uint8_t *)s.data;
	piece->len = s.len;
	piece->room = 0;
	piece->size = sizeof(*piece);
	list_add_tail(&chain->pieces, &piece->node);
	chain->len += s.len;
}

uint8_t *chain_reserve(struct chain *chain, size_t n)
{
	struct piece *piece;

	if (unlikely(chain->failed))
		return NULL;
	if (!list_empty(&chain->pieces)) {
		piece = last_piece(chain);
		if (piece->room >= n)
			return piece->data + piece->len;
	}
	piece = add_own(chain, n);
	return piece ? piece->data : NULL;
}

void chain_commit(struct chain *chain, size_t n)
{
	struct piece *piece;

	if (chain->failed)
		return;
	BUG_ON(list_empty(&chain->pieces));
	piece = last_piece(chain);
	BUG_ON(n > piece->room);
	piece->len += n;
	piece->room -= n;
	chain->len += n;
}

void chain_append(struct chain *chain, struct slice s)
{
	uint8_t *p;

	if (!s.len)
		return;
	p = chain_reserve(chain, s.len);
	if (!p)
		return;
	memcpy(p, s.data, s.len);
	chain_commit(chain, s.len);
}

void chain_append_blob(struct chain *chain, struct blob *blob, struct slice s)
{
	BUG_ON(s.len > blob->len);
	if (s.len < CHAIN_REFER_MIN)
		chain_append(chain, s);
	else if (!chain->failed)
		add_blob(chain, blob, s);
}

/* Moves the whole first piece of @from: by copy where it is short and joins others. */
static void move_piece(struct chain *to, struct chain *from)
{
	struct piece *piece = first_piece(from);

	from->len -= piece->len;
	if (piece->len < CHAIN_REFER_MIN && (!list_empty(&to->pieces) || piece->blob)) {
		chain_append(to, slice_of(piece->data, piece->len));
		piece_free(piece);
		return;
	}
	to->len += piece->len;
	list_del(&piece->node);
	list_add_tail(&to->pieces, &piece->node);
}

/* Moves the first @n bytes of the first piece of @from, which has more than those. */
static void move_part(struct chain *to, struct chain *from, size_t n)
{
	struct piece *piece = first_piece(from);
	struct slice s = slice_of(piece->data, n);

	if (piece->blob)
		chain_append_blob(to, piece->blob, s);
	else
		chain_append(to, s);
	piece->data += n;
	piece->len -= n;
	from->len -= n;
}

void chain_move(struct chain *to, struct chain *from, size_t n)
{
	BUG_ON(to == from);
	to->failed |= from->failed;
	n = MIN(n, from->len);
	while (n) {
		size_t len = first_piece(from)->len;

		if (len > n) {
			move_part(to, from, n);
			return;
		}
		n -= len;
		move_piece(to, from);
	}
}

void chain_splice(struct chain *to, struct chain *from)
{
	chain_move(to, from, from->len);
	chain_release(from);
}

void chain_drop(struct chain *chain, size_t n)
{
	BUG_ON(n > chain->len);
	chain->len -= n;
	while (!list_empty(&chain->pieces)) {
		struct piece *piece = first_piece(chain);

		if (piece->len > n) {
			piece->data += n;
			piece->len -= n;
			return;
		}
		n -= piece->len;
		piece_free(piece);
	}
	BUG_ON(n);
}

int chain_iov(const struct chain *chain, struct iovec *iov, int max)
{
	struct piece *piece;
	int n = 0;

	list_for_each(piece, &chain->pieces, node) {
		if (n == max)
			break;
		if (piece->len)
			iov[n++] = (struct iovec){ piece->data, piece->len };
	}
	return n;
}

void chain_copy(const struct chain *chain, uint8_t *out)
{
	struct piece *piece;

	list_for_each(piece, &chain->pieces, node) {
		memcpy(out, piece->data, piece->len);
		out += piece->len;
	}
}
