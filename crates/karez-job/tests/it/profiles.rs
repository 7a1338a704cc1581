use serde_json::json;

use crate::kit::{options, parse, plan_problems, problems};

/// §3.9.4 of the design document.
const CONNECTORS: &str = "
connectors:
  jdbc:
    type: jdbc
    driver: com.mysql.cj.jdbc.Driver
    url: jdbc:mysql://localhost:3306/db
    username: user
    password: ${PASSWORD}
    pool:
      maxSize: 20
      maxIdleTime: 30m
  events:
    type: kafka
    bootstrapServers: localhost:9092
    consumerGroup: etl-consumer
    topics:
      - user-events
      - order-events
    properties:
      enable.auto.commit: false
      max.poll.records: 500
";

#[test]
fn a_node_takes_the_options_of_the_connection_it_names_under_its_own() {
    let file = parse(&format!(
        "{CONNECTORS}
job:
  name: x
  source: {{ connector: events, config: {{ topics: [mine], properties: {{ max.poll.records: 7 }} }} }}
  sink: {{ connector: jdbc, type: jdbc, config: {{ table: t, pool: {{ maxSize: 2 }} }} }}
"
    ));
    assert_eq!(
        options(&file.graph, "source"),
        (
            "kafka",
            &json!({
                "topics": ["mine"],
                "properties": { "max.poll.records": 7, "enable.auto.commit": false },
                "bootstrapServers": "localhost:9092",
                "consumerGroup": "etl-consumer",
            })
        )
    );
    let (connector, config) = options(&file.graph, "sink");
    assert_eq!(connector, "jdbc");
    assert_eq!(config["pool"], json!({ "maxSize": 2, "maxIdleTime": "30m" }));
    assert_eq!(config["password"], "${PASSWORD}");
    assert!(file.warnings.is_empty());
}

#[test]
fn what_a_connector_refuses_of_a_connection_is_shown_where_the_connection_stands() {
    let text = "connectors:\n  db:\n    type: jdbc\n    url: u\n    passwort: p\njob:\n  name: x\n  source: { connector: kafka, config: { bootstrapServers: h } }\n  sink: { connector: db }\n";
    assert_eq!(plan_problems(text), "5:5 unknown key `passwort` in `sink` | did you mean `password`?");
}

#[test]
fn a_connection_needs_a_type_and_a_user() {
    let file = parse(&format!("{CONNECTORS}\njob: {{ name: x, source: {{ connector: events }}, sink: {{ connector: f }} }}"));
    assert_eq!(file.warnings.items()[0].message, "no node uses the connection `jdbc`");
    assert_eq!(
        problems("connectors:\n  db: { url: u }\njob: { name: x, source: { connector: f }, sink: { connector: f } }"),
        "2:3 the connection `db` does not say what it connects to | add `type: <connector>`, such as `type: jdbc`"
    );
}
