/* SPDX-License-Identifier: Apache-2.0 */
/* Options from a YAML file: one mapping of names to values. */
#include "lib/options_i.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define SOURCE_MAX 512

struct file {
	struct options *o;
	const char *path;
	yaml_document_t document;
};

/* YAML's lines count from 0. */
static unsigned long line_of(const yaml_node_t *node)
{
	return (unsigned long)node->start_mark.line + 1;
}

static const char *scalar(const yaml_node_t *node)
{
	return (const char *)node->data.scalar.value;
}

/* A value that is not there: "name:" or "name: ~" leaves the default. */
static bool is_null(const yaml_node_t *node)
{
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL" };

	if (node->type != YAML_SCALAR_NODE ||
	    node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(nulls); i++)
		if (!strcmp(scalar(node), nulls[i]))
			return true;
	return false;
}

/* A duration written as a bare whole number means nanoseconds. */
static bool is_whole_number(const char *text)
{
	return *text && text[strspn(text, "0123456789")] == '\0';
}

static int set_scalar(struct file *f, const struct option_def *def, const char *source,
		      const yaml_node_t *node)
{
	const char *text = scalar(node);
	char ns[64];
	int n;

	if (strlen(text) != node->data.scalar.length)
		return options_fail(f->o, -EINVAL, "%s: the value holds a zero byte", source);
	if (def->type == OPTION_DURATION && is_whole_number(text)) {
		n = snprintf(ns, sizeof(ns), "%sns", text);
		if (n > 0 && (size_t)n < sizeof(ns))
			text = ns;
	}
	return option_set(f->o, def, source, text);
}

/* The elements of a sequence, divided by commas, as one string. */
static int set_sequence(struct file *f, const struct option_def *def, const char *source,
			const yaml_node_t *node)
{
	char *joined = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&joined, &size);
	int r = 0;

	if (!out)
		return options_fail(f->o, -ENOMEM, "out of memory");
	for (yaml_node_item_t *item = node->data.sequence.items.start;
	     item < node->data.sequence.items.top; item++) {
		const yaml_node_t *element = yaml_document_get_node(&f->document, *item);

		if (element->type != YAML_SCALAR_NODE) {
			r = options_fail(f->o, -EINVAL, "%s: its elements must be text", source);
			break;
		}
		fprintf(out, "%s%s", item == node->data.sequence.items.start ? "" : ",",
			scalar(element));
	}
	if (fclose(out) && r == 0)
		r = options_fail(f->o, -ENOMEM, "out of memory");
	if (r == 0)
		r = option_set(f->o, def, source, joined);
	free(joined);
	return r;
}

static bool takes_list(const struct option_def *def)
{
	return def->type == OPTION_STRING || def->type == OPTION_UNSUPPORTED ||
	       def->type == OPTION_IGNORED;
}

static int set_pair(struct file *f, const yaml_node_t *key, const yaml_node_t *value)
{
	const struct option_def *def = NULL;
	struct options *o = f->o;
	char source[SOURCE_MAX];
	int r;

	if (key->type != YAML_SCALAR_NODE)
		return options_fail(o, -EINVAL, "%s:%lu: a key must be the name of an option",
				    f->path, line_of(key));
	def = options_find(o->defs, scalar(key), key->data.scalar.length);
	if (!def || def->argv_only || !strcmp(def->name, o->config_file_option))
		return options_fail(o, -EINVAL, "%s:%lu: unknown key '%.100s': no such option",
				    f->path, line_of(key), scalar(key));
	snprintf(source, sizeof(source), "%s:%lu: %s", f->path, line_of(key), def->name);
	if (o->given[def - o->defs])
		return options_fail(o, -EINVAL, "%s is given twice", source);
	if (is_null(value))
		return 0;
	if (value->type == YAML_SCALAR_NODE)
		r = set_scalar(f, def, source, value);
	else if (value->type == YAML_SEQUENCE_NODE && takes_list(def))
		r = set_sequence(f, def, source, value);
	else
		r = options_fail(o, -EINVAL, "%s: the value must be %s", source,
				 takes_list(def) ? "text or a list of texts" : "one plain value");
	if (r == 0)
		o->given[def - o->defs] = true;
	return r;
}

static int set_all(struct file *f)
{
	yaml_node_t *root = yaml_document_get_root_node(&f->document);
	int r;

	if (!root || is_null(root))
		return 0;
	if (root->type != YAML_MAPPING_NODE)
		return options_fail(f->o, -EINVAL,
				    "%s:%lu: must be a mapping of option names to values, "
				    "such as 'name: one'", f->path, line_of(root));
	for (yaml_node_pair_t *pair = root->data.mapping.pairs.start;
	     pair < root->data.mapping.pairs.top; pair++) {
		r = set_pair(f, yaml_document_get_node(&f->document, pair->key),
			     yaml_document_get_node(&f->document, pair->value));
		if (r < 0)
			return r;
	}
	return 0;
}

static int load(struct file *f, FILE *in)
{
	yaml_parser_t parser;
	int r = 0;

	if (!yaml_parser_initialize(&parser))
		return options_fail(f->o, -ENOMEM, "out of memory");
	yaml_parser_set_input_file(&parser, in);
	if (!yaml_parser_load(&parser, &f->document)) {
		r = options_fail(f->o, -EINVAL, "%s:%lu: not YAML: %s", f->path,
				 (unsigned long)parser.problem_mark.line + 1,
				 parser.problem ? parser.problem : "out of memory");
	} else {
		r = set_all(f);
		yaml_document_delete(&f->document);
	}
	yaml_parser_delete(&parser);
	return r;
}

int options_read_file(struct options *o, const char *path)
{
	struct file f = { .o = o, .path = path };
	FILE *in = fopen(path, "re");
	int r;

	if (!in) {
		r = -errno;
		return options_fail(o, r, "cannot read the configuration file %s: %s", path,
				    strerrordesc_np(-r));
	}
	r = load(&f, in);
	fclose(in);
	return r;
}
