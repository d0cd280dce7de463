# The zones against reference labels, where a study has them.


rule score:
    input:
        chunk="chunks/{chunk}.json",
        before="done/segment/{chunk}",
    output:
        touch("done/score/{chunk}"),
    log:
        "logs/score/{chunk}.log",
    shell:
        "exec {config[mrisr]} stage score --chunk {input.chunk} > {log} 2>&1"
