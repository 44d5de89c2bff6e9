/// The stages of the cut `pipeline`, in the order they run.
public enum PipelineStage: String, Sendable, CaseIterable {
    /// ALBERT and its projection, over tokens.
    case encoder = "Encoder"
    /// Durations and the text encoder, over tokens.
    case duration = "Duration"
    /// Alignment, pitch and energy, over frames.
    case prosody = "Prosody"
    /// The decoder's blocks, over frames.
    case decoder = "Decoder"
    /// Harmonics and noise, over frames.
    case source = "Source"
    /// Upsampling, over frames.
    case generator = "Generator"
    /// Spectrum to samples, over frames.
    case tail = "Tail"

    /// Whether its buckets are of tokens; those of the others are of frames.
    public var isOfTokens: Bool { self == .encoder || self == .duration }
}

/// One function of a bundle's packages and the package it stands in.
public struct PackagedFunction: Sendable, Equatable {
    /// The package.
    public let package: Manifest.Package
    /// The function.
    public let function: Manifest.Function

    package init(package: Manifest.Package, function: Manifest.Function) {
        self.package = package
        self.function = function
    }
}

extension Manifest {
    /// Whether the bundle holds the cut `pipeline`, which is then the one to use.
    public var hasPipeline: Bool { packages.contains { same($0.cut, "pipeline") } }

    /// The buckets of the cut `complete`.
    ///
    /// - Throws: `KokoroError.bundle` if there is no package of it.
    public func completeBuckets() throws -> CompleteBuckets {
        let shapes = functions(ofCut: "complete").compactMap { Self.bucket($0.function) }
        guard !shapes.isEmpty else {
            throw KokoroError.bundle("the bundle has no package of the cut 'complete'")
        }
        return CompleteBuckets(shapes: shapes, samplesPerFrame: samplesPerFrame)
    }

    /// The function of the cut `complete` for a bucket, nil if there is none.
    public func completeFunction(_ bucket: Bucket) -> PackagedFunction? {
        functions(ofCut: "complete").first { Self.bucket($0.function) == bucket }
    }

    /// The buckets of the cut `pipeline`.
    ///
    /// - Throws: `KokoroError.bundle` if a stage is missing, or its stages do not share their
    ///   buckets.
    public func pipelineBuckets() throws -> PipelineBuckets {
        PipelineBuckets(
            tokens: try commonSizes(PipelineStage.allCases.filter(\.isOfTokens)),
            frames: try commonSizes(PipelineStage.allCases.filter { !$0.isOfTokens }),
            samplesPerFrame: samplesPerFrame)
    }

    /// The function of a stage for a bucket, nil if there is none.
    public func pipelineFunction(_ stage: PipelineStage, size: Int) -> PackagedFunction? {
        functions(of: stage).last { Self.size($0.function) == size }
    }

    private func commonSizes(_ stages: [PipelineStage]) throws -> [Int] {
        let sizes = stages.map { stage in
            Set(functions(of: stage).compactMap { Self.size($0.function) }).sorted()
        }
        guard let first = sizes.first, !first.isEmpty, sizes.allSatisfy({ $0 == first }) else {
            let found = zip(stages, sizes).map { "\($0.rawValue) \($1)" }.joined(separator: ", ")
            let whole = PipelineStage.allCases.map(\.rawValue).joined(separator: ", ")
            throw KokoroError.bundle(
                "the stages of a pipeline must have the same buckets, found \(found); a whole "
                    + "pipeline has the stages \(whole)")
        }
        return first
    }

    private func functions(ofCut cut: String) -> [PackagedFunction] {
        packages.filter { same($0.cut, cut) }.flatMap { package in
            package.functions.map { PackagedFunction(package: package, function: $0) }
        }
    }

    private func functions(of stage: PipelineStage) -> [PackagedFunction] {
        functions(ofCut: "pipeline").filter { place in
            place.package.stage.map { same($0, stage.rawValue) } ?? false
        }
    }

    private static func bucket(_ function: Function) -> Bucket? {
        guard let tokens = function.bucket.tokens, let frames = function.bucket.frames else {
            return nil
        }
        return Bucket(tokens: tokens, frames: frames)
    }

    private static func size(_ function: Function) -> Int? {
        function.bucket.tokens ?? function.bucket.frames
    }
}
