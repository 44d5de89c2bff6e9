import Foundation
import KokoroBundle

/// A bundle on disk whose network is `TinyNetwork`; removed when it is released.
public final class TinyBundle: Sendable {
    /// Frames and samples of the tiny network.
    public static let samplesPerFrame = 4
    /// Values of a voice's row.
    public static let styleColumns = 4
    /// Longest text.
    public static let maxPhonemes = 30

    /// The folder.
    public let url = FileManager.default.temporaryDirectory.appendingPathComponent(
        "tiny-\(UUID().uuidString)")

    /// Writes the bundle of a pipeline.
    public convenience init(tokens: [Int] = [8, 16], frames: [Int] = [12, 24]) throws {
        try self.init(
            packages: PipelineStage.allCases.map { stage in
                TinyPackage(
                    file: "\(stage.rawValue).mlpackage", cut: "pipeline", stage: stage.rawValue,
                    functions: (stage.isOfTokens ? tokens : frames).map { size in
                        TinyFunction(
                            name: "\(stage.isOfTokens ? "tokens" : "frames")_\(size)",
                            tokens: stage.isOfTokens ? size : nil,
                            frames: stage.isOfTokens ? nil : size,
                            ports: TinyPorts.pipeline(stage, size))
                    })
            })
    }

    /// Writes the bundle of the cut `complete`, a package for each shape.
    public convenience init(complete shapes: [Bucket]) throws {
        try self.init(
            packages: shapes.map { shape in
                TinyPackage(
                    file: "Kokoro_\(shape.tokens)x\(shape.frames).mlpackage", cut: "complete",
                    stage: nil,
                    functions: [
                        TinyFunction(
                            name: "main", tokens: shape.tokens, frames: shape.frames,
                            ports: TinyPorts.complete(shape))
                    ])
            })
    }

    init(packages: [TinyPackage]) throws {
        let vocabulary = TinyNetwork.vocabulary.map { #""\#($0)": \#($1)"# }.sorted()
        let configuration = """
            {"style_dim": \(Self.styleColumns / 2), "n_token": 178,
             "plbert": {"max_position_embeddings": \(Self.maxPhonemes + 2)},
             "vocab": {\(vocabulary.joined(separator: ", "))}}
            """
        try write("config.json", Data(configuration.utf8))
        for (index, name) in ["first", "second"].enumerated() {
            let values = (0..<Self.maxPhonemes * Self.styleColumns).map {
                Float(1000 * index + $0) / 8
            }
            try write("voices/\(name).bin", LittleEndian.bytes(values))
        }
        for package in packages {
            try write(
                "\(package.file)/Data/com.apple.CoreML/model.mlmodel", Data(package.file.utf8))
        }
        let listed = try BundleFiles.hash(folder: url).entries.map { path, file in
            #""\#(path)": {"sha256": "\#(file.sha256)", "bytes": \#(file.bytes)}"#
        }
        try write("manifest.json", Data(Self.manifest(packages, files: listed).utf8))
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    /// The bundle, read.
    public func folder(verifying: Bool = false) throws -> BundleFolder {
        try BundleFolder(url, verifying: verifying)
    }

    /// Replaces text of the manifest.
    public func change(_ text: String, to other: String) throws {
        let file = url.appendingPathComponent("manifest.json")
        let manifest = try String(contentsOf: file, encoding: .utf8)
        precondition(manifest.contains(text), "the manifest does not hold \(text)")
        try write(
            "manifest.json", Data(manifest.replacingOccurrences(of: text, with: other).utf8))
    }

    private func write(_ path: String, _ data: Data) throws {
        let file = url.appendingPathComponent(path)
        try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try data.write(to: file)
    }

    private static func voice(_ name: String) -> String {
        """
        {"name": "\(name)", "file": "voices/\(name).bin", "rows": \(maxPhonemes),
         "columns": \(styleColumns), "dtype": "float32", "license": "Apache-2.0"}
        """
    }

    private static func manifest(_ packages: [TinyPackage], files: [String]) -> String {
        let buckets = Set(packages.flatMap(\.functions).map(\.bucket)).sorted()
        return """
            {"schema_version": 1, "project_version": "0.1",
             "recipe": {"name": "tiny", "content": {}},
             "checkpoint": {"source": "none", "location": "nowhere", "revision": null,
              "files": {}, "license": "Apache-2.0", "fallback_from": null, "notes": []},
             "sample_rate": 24000, "samples_per_frame": \(samplesPerFrame),
             "max_phonemes": \(maxPhonemes), "vocabulary": "config.json",
             "packages": [\(packages.map(\.json).joined(separator: ", "))],
             "buckets": [\(buckets.joined(separator: ", "))],
             "noise": {"algorithm": "philox4x64-10/box-muller/float64", "seed": 3},
             "voices": [\(voice("first")), \(voice("second"))], "sample": null, "tools": {},
             "parity": {"verdict": "not run", "runtime": "executor", "legs": []},
             "files": {\(files.joined(separator: ", "))}}
            """
    }
}

struct TinyPackage {
    let file: String
    let cut: String
    let stage: String?
    let functions: [TinyFunction]

    var json: String {
        """
        {"file": "\(file)", "cut": "\(cut)", "stage": \(stage.map { "\"\($0)\"" } ?? "null"),
         "functions": [\(functions.map(\.json).joined(separator: ", "))], "precision": "mixed",
         "minimum_deployment_target": "iOS18",
         "compute_units": "\(stage == "Decoder" ? "CPU_AND_NE" : "CPU_ONLY")"}
        """
    }
}

struct TinyFunction {
    let name: String
    let tokens: Int?
    let frames: Int?
    let ports: TinyPorts

    var bucket: String {
        let axes = [tokens, frames].map { $0.map(String.init) ?? "null" }
        return #"{"tokens": \#(axes[0]), "frames": \#(axes[1])}"#
    }

    var json: String {
        """
        {"name": "\(name)", "bucket": \(bucket), "inputs": [\(TinyPorts.json(ports.inputs))],
         "outputs": [\(TinyPorts.json(ports.outputs))]}
        """
    }
}
