//! Compiles `proto/` into Rust: gRPC types and services (tonic, prost), the proto3 JSON form of what we serve (pbjson)
//! and the descriptor set that reflection serves: of our own service, neither of the one by which rules come (xDS) nor of the
//! messages of the OpenTelemetry protocol. protox does it in Rust: no system `protoc` is needed.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    const SERVED: &str = "envoy/service/ratelimit/v3/rls.proto";
    const ASKED: [&str; 2] = ["envoy/service/discovery/v3/ads.proto", "ratelimit/config/ratelimit/v3/rls_conf.proto"];

    const TOLD: [&str; 2] = ["opentelemetry/proto/collector/trace/v1/trace_service.proto", "google/rpc/status.proto"];

    let served = protox::compile([SERVED], ["proto"])?.encode_to_vec();
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), &served)?;
    let all = protox::compile([SERVED].into_iter().chain(ASKED).chain(TOLD), ["proto"])?;

    tonic_prost_build::configure()
        .compile_well_known_types(true)
        .extern_path(".google.protobuf", "::pbjson_types")
        .build_client(true)
        .build_transport(false)
        .compile_fds(all)?;
    pbjson_build::Builder::new()
        .register_descriptors(&served)?
        .extern_path(".google.protobuf", "::pbjson_types")
        .build(&[".envoy"])?;
    Ok(())
}
