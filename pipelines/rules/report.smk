# A page for each study.


rule report:
    input:
        chunk="chunks/{chunk}.json",
        before="done/score/{chunk}",
    output:
        touch("done/report/{chunk}"),
    log:
        "logs/report/{chunk}.log",
    shell:
        "exec {config[mrisr]} stage report --chunk {input.chunk} > {log} 2>&1"
