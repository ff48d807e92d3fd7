"""Every kind of parse tree node that a statement may consist of. What is not here is refused."""

ALLOWED_NODES = frozenset(
    """
SelectStmt InsertStmt UpdateStmt DeleteStmt ExplainStmt VariableShowStmt DefElem
RangeVar RangeSubselect RangeFunction RangeTableSample RangeTableFunc RangeTableFuncCol JoinExpr Alias ColumnDef
TypeName WithClause CommonTableExpr CTESearchClause CTECycleClause
ResTarget MultiAssignRef SetToDefault OnConflictClause InferClause IndexElem ReturningClause ReturningOption
ColumnRef ParamRef A_Const A_Expr A_Star A_Indices A_Indirection A_ArrayExpr BoolExpr NullTest BooleanTest TypeCast
CollateClause CaseExpr CaseWhen CoalesceExpr MinMaxExpr SubLink RowExpr SQLValueFunction FuncCall NamedArgExpr
GroupingFunc GroupingSet WindowDef SortBy
XmlExpr XmlSerialize
JsonObjectConstructor JsonArrayConstructor JsonArrayQueryConstructor JsonKeyValue JsonValueExpr JsonFormat
JsonReturning JsonOutput JsonObjectAgg JsonArrayAgg JsonAggConstructor JsonIsPredicate JsonParseExpr JsonScalarExpr
JsonSerializeExpr JsonFuncExpr JsonBehavior JsonArgument JsonTable JsonTableColumn JsonTablePathSpec
Integer Float Boolean String BitString List
""".split()  # noqa: SIM905 - one line a name would be hundreds of lines
)
"""Names of messages in pg_query.proto."""
