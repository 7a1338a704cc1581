cd /work/wt/dspeed
B=$CARGO_TARGET_DIR/release/karez-bench
date
timeout 178 $B speed --rows 500000 --rounds ${N:-5} --data /tmp/dspeed-data "$@"
echo rc $?
date
