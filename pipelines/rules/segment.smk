# The zones of the measured and of the super-resolved volumes.


rule segment:
    input:
        chunk="chunks/{chunk}.json",
        before="done/upsample/{chunk}",
    output:
        touch("done/segment/{chunk}"),
    log:
        "logs/segment/{chunk}.log",
    shell:
        "exec {config[mrisr]} stage segment --chunk {input.chunk} > {log} 2>&1"
