//! Where names of functions are looked up: DataFusion's functions, less those that need a query engine around them, and ours in their place.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, TableReference, plan_err};
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};

use crate::clock::{Clock, clock_functions};
use crate::percentile::percentile_functions;

/// Scalar functions that speak of the file being scanned.
const NOT_SCALAR: [&str; 2] = ["input_file_name", "file_row_index"];
/// Aggregate functions that have a meaning only under `GROUPING SETS`.
const NOT_AGGREGATE: [&str; 1] = ["grouping"];

/// All functions by name and alias, in lower case.
pub(crate) struct Functions {
    pub(crate) scalar: HashMap<String, Arc<ScalarUDF>>,
    pub(crate) higher_order: HashMap<String, Arc<HigherOrderUDF>>,
    pub(crate) aggregate: HashMap<String, Arc<AggregateUDF>>,
    /// Known only to refuse them with the right word.
    pub(crate) window: HashMap<String, Arc<WindowUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    pub(crate) options: Arc<ConfigOptions>,
}

impl Functions {
    pub(crate) fn new(clock: &Clock) -> Self {
        let mut functions = Self {
            scalar: HashMap::new(),
            higher_order: HashMap::new(),
            aggregate: HashMap::new(),
            window: HashMap::new(),
            planners: SessionStateDefaults::default_expr_planners(),
            options: Arc::new(options()),
        };
        for udf in SessionStateDefaults::default_scalar_functions() {
            if !NOT_SCALAR.contains(&udf.name()) {
                functions.add_scalar(&udf);
            }
        }
        // After DataFusion's, which fold the time to a constant, to take their names.
        for udf in clock_functions(clock) {
            functions.add_scalar(&udf);
        }
        for udf in SessionStateDefaults::default_higher_order_functions() {
            insert(&mut functions.higher_order, udf.name(), udf.aliases(), &udf);
        }
        for udf in SessionStateDefaults::default_aggregate_functions() {
            if !NOT_AGGREGATE.contains(&udf.name()) {
                insert(&mut functions.aggregate, udf.name(), udf.aliases(), &udf);
            }
        }
        // After DataFusion's, to take their names.
        for udf in percentile_functions() {
            insert(&mut functions.aggregate, udf.name(), udf.aliases(), &udf);
        }
        for udf in SessionStateDefaults::default_window_functions() {
            insert(&mut functions.window, udf.name(), udf.aliases(), &udf);
        }
        functions
    }

    fn add_scalar(&mut self, udf: &Arc<ScalarUDF>) {
        insert(&mut self.scalar, udf.name(), udf.aliases(), udf);
    }
}

fn insert<T>(map: &mut HashMap<String, Arc<T>>, name: &str, aliases: &[String], udf: &Arc<T>) {
    for name in aliases.iter().map(String::as_str).chain([name]) {
        map.insert(name.to_ascii_lowercase(), Arc::clone(udf));
    }
}

/// Identifiers as written; strings are `Utf8`, as in the schemas of Karez.
fn options() -> ConfigOptions {
    let mut options = ConfigOptions::new();
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("an expression reads columns of its input, not the table `{name}`")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalar.get(&name.to_ascii_lowercase()).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.higher_order.get(&name.to_ascii_lowercase()).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregate.get(&name.to_ascii_lowercase()).cloned()
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.scalar.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.higher_order.keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregate.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
