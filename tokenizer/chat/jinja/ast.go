package jinja

// Statements.
type (
	dataNode   struct{ text string }
	outputNode struct{ exprs []expr }
	ifNode     struct {
		cond        expr
		then, other []stmt
	}
	forNode struct {
		target    target
		iter      expr
		test      expr // nil without
		recursive bool
		body      []stmt
		other     []stmt
	}
	setNode struct {
		target target
		value  expr
	}
	setBlockNode struct {
		target  target
		filters []*filterExpr // applied in order
		body    []stmt
	}
	macroNode struct {
		name     string
		params   []string
		defaults []expr // of the last ones
		body     []stmt
	}
	callNode struct {
		call  *callExpr
		macro *macroNode // the caller
	}
	filterNode struct {
		filters []*filterExpr
		body    []stmt
	}
	withNode struct {
		targets []target
		values  []expr
		body    []stmt
	}
	scopeNode    struct{ body []stmt } // {% block %}
	breakNode    struct{}
	continueNode struct{}
)

type stmt any

// target is what a value is assigned to: a name, a tuple, or an attribute of a
// namespace.
type target struct {
	name  string
	attr  string
	tuple []target
}

// Expressions.
type (
	constExpr struct{ value any }
	nameExpr  struct{ name string }
	listExpr  struct {
		items []expr
		tuple bool
	}
	dictExpr  struct{ keys, values []expr }
	condExpr  struct{ cond, then, other expr } // other nil: undefined
	andExpr   struct{ left, right expr }
	orExpr    struct{ left, right expr }
	notExpr   struct{ x expr }
	unaryExpr struct {
		op string
		x  expr
	}
	binaryExpr struct {
		op          string
		left, right expr
	}
	compareExpr struct {
		left expr
		ops  []string
		args []expr
	}
	attrExpr struct {
		x    expr
		name string
	}
	itemExpr  struct{ x, key expr }
	sliceExpr struct{ start, stop, step expr } // as the key of an itemExpr
	callExpr  struct {
		fn   expr
		args callArgs
	}
	filterExpr struct {
		x    expr // nil at the head of a filter block
		name string
		args callArgs
		line int
	}
	testExpr struct {
		x    expr
		name string
		args callArgs
		not  bool
		line int
	}
)

type expr any

type callArgs struct {
	pos            []expr
	names          []string // of the keyword arguments
	values         []expr
	star, starStar expr
}
